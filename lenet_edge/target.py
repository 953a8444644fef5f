"""Target (a runtime on a device) and session (an artifact opened on a target)."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.errors import TargetError
from lenet_edge.support.printable import make_printable

# The delegate that a TFLite interpreter applies by default. It runs on the interpreter's own CPU.
DEFAULT_DELEGATE = "XNNPACK"

Images = npt.NDArray[np.float32]
Logits = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
# The values for one call: an array for a model with one input, or an array for each input by name.
InputValues = Array | Mapping[str, Array]


@dataclass(frozen=True)
class Target:
    """Runtime on a device, with a delegate or without.

    Attributes:
        name: ``<runtime>-<delegate or device>``, such as litert-xnnpack.
        runtime: name of the runtime.
        formats: names of the formats that it runs.
        device: "cpu", "gpu", "npu" or "mcu".
        delegate: name of the delegate or execution provider; None for none.
        package: Python package of the runtime.
        extra: extra of lenet-edge that installs the package.
        preference: rank among the targets of a format; the lowest is the first choice.
        library: path of an external TFLite delegate, a shared library; None for none.
        options: keys and values to create the delegate with.
        allow_fallback: whether the delegate may leave nodes to the CPU.
        measures: "latency", "instructions" on an emulated core, whose time says nothing, or
            "cycles" on a board at a serial port.
        parameter: what follows the name and a colon, such as PORT in serial:PORT; None for nothing.
    """

    name: str
    runtime: str
    formats: tuple[str, ...]
    device: str
    delegate: str | None
    package: str
    extra: str
    preference: int
    library: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    allow_fallback: bool = False
    measures: str = "latency"
    parameter: str | None = None

    def __repr__(self) -> str:
        return f"Target({self.name!r} for {', '.join(self.formats)} on {self.device})"

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Target:
        """Create the target from its fields, as `dataclasses.asdict` returns them."""
        options = tuple((name, value) for name, value in facts["options"])
        return cls(**{**facts, "formats": tuple(facts["formats"]), "options": options})


@dataclass(frozen=True)
class Delegation:
    """Part of a model that a delegate, a device or an execution provider runs.

    Attributes:
        delegate: name of the delegate.
        nodes_total: number of nodes of the model.
        nodes_taken: number of nodes that the delegate runs.
        left_behind: nodes that the CPU runs, each as "KIND name".
        macs_total: multiply-accumulate operations for one image; None if no installed package can
            count them.
        macs_taken: how many of these the delegate runs.
        device: name that the device reports.
        emulated: whether the device is a GPU or NPU in software.
        precision: precision in which the device computes; None if it is that of the file.
    """

    delegate: str
    nodes_total: int
    nodes_taken: int
    left_behind: tuple[str, ...] = ()
    macs_total: int | None = None
    macs_taken: int | None = None
    device: str | None = None
    emulated: bool = False
    precision: str | None = None

    @property
    def is_complete(self) -> bool:
        """True if the delegate runs all nodes."""
        return self.nodes_taken >= self.nodes_total

    @property
    def falls_back(self) -> bool:
        """True if the delegate leaves nodes to another device than its own.

        The nodes that XNNPACK leaves are no fallback: its interpreter runs them on the same CPU.
        """
        return not self.is_complete and self.delegate != DEFAULT_DELEGATE

    def __str__(self) -> str:
        device = f" on {self.device}" if self.device else ""
        software = " (software)" if self.emulated else ""
        macs = f" and {_percent(self.macs_taken, self.macs_total)} of the multiplications" if (
            self.macs_total and self.macs_taken is not None
        ) else ""  # fmt: skip
        precision = f", in {self.precision}" if self.precision else ""
        return (
            f"{self.delegate} took {self.nodes_taken} of {self.nodes_total} nodes{macs}{device}"
            f"{software}{precision}"
        )

    @classmethod
    def from_json(cls, facts: dict[str, Any] | None) -> Delegation | None:
        """Create the delegation from its fields; return None for None."""
        if facts is None:
            return None
        return cls(**{**facts, "left_behind": tuple(facts["left_behind"])})


def _percent(part: int, whole: int) -> str:
    """Return a share in whole percent; only a complete one is 100 %."""
    return f"{100 if part >= whole else min(99, round(100 * part / whole))} %"


class Session(Protocol):
    """Artifact opened on a target; close it with `contextlib.closing`.

    Only `infer` is inference. `bench` times `prepare` (quantize, rearrange, copy in) and `outputs`
    (copy out) separately, so that a latency never includes them. A model may have any number of
    inputs and outputs, of any numeric type and rank. `TensorSession` has the common parts.
    """

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """The input tensors; None in a shape is a free size."""

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """The output tensors."""

    @property
    def runtime_version(self) -> str:
        """The version of the runtime."""

    @property
    def delegation(self) -> Delegation | None:
        """The part that a delegate runs, known after `prepare`; None without a delegate."""

    @property
    def state(self) -> str | None:
        """The text "carried" if the model keeps a state between calls; None without a state."""

    def prepare(self, values: InputValues) -> None:
        """Load the values for one call into the input tensors.

        Args:
            values: an array for each input, by name; or the array of the only input. Arrays of the
                input's own dtype are taken as they are. Others are converted by `quantize`. The
                session adapts its free sizes to the arrays.

        Raises:
            TargetError: an input is missing or unknown, or a shape does not fit.
        """

    def infer(self) -> None:
        """Run the model on the values that `prepare` loaded."""

    def outputs(self) -> dict[str, Array]:
        """Return a copy of each output of the last `infer`, by name, in the model's dtype."""

    def logits(self) -> Logits:
        """Return the only output of a classifier, dequantized to float32.

        Raises:
            TargetError: the model has several outputs.
        """

    def close(self) -> None:
        """Release the resources of the session."""


class TensorSession(ABC):
    """Base of the sessions: the order and the types of the inputs, and the view of a classifier."""

    input_specs: tuple[TensorSpec, ...] = ()
    output_specs: tuple[TensorSpec, ...] = ()
    delegation: Delegation | None = None
    state: str | None = None

    def arrays(self, values: InputValues) -> list[Array]:
        """Return an array for each input, in the order and the dtypes of `input_specs`.

        Raises:
            TargetError: see `Session.prepare`.
        """
        if isinstance(values, np.ndarray):
            if len(self._types) != 1:
                raise TargetError(self._describe_mismatch(values))
            _, dtype, spec = self._types[0]
            return [values if values.dtype is dtype else quantize(values, spec)]
        # Little code, because what runs between two calls slows the second one.
        arrays = []
        for name, dtype, spec in self._types:
            array = values.get(name)
            if array is None:
                raise TargetError(self._describe_mismatch(values))
            arrays.append(array if array.dtype is dtype else quantize(array, spec))
        if len(values) != len(arrays):
            raise TargetError(self._describe_mismatch(values))
        return arrays

    @functools.cached_property
    def _types(self) -> list[tuple[str, np.dtype[Any], TensorSpec]]:
        return [(spec.name, np.dtype(spec.dtype), spec) for spec in self.input_specs]

    def _describe_mismatch(self, values: InputValues) -> str:
        names = [spec.name for spec in self.input_specs]
        known = ", ".join(names) or "none"
        if isinstance(values, np.ndarray):
            return f"the model has {len(names)} inputs; give an array for each: {known}"
        missing = [name for name in names if name not in values]
        unknown = sorted(set(values) - set(names))
        problem = f"no array for {missing[0]}" if missing else f"{unknown[0]} is no input"
        return f"{problem}; the inputs of the model are {known}"

    @abstractmethod
    def outputs(self) -> dict[str, Array]:
        """Return a copy of each output of the last `infer`, by name."""

    def logits(self) -> Logits:
        """Return the only output, dequantized to float32."""
        if len(self.output_specs) != 1:
            raise TargetError(
                f"the model has {len(self.output_specs)} outputs; logits are those of a classifier"
                " with one output"
            )
        return dequantize(self._first_output(), self.output_specs[0], copy=False)

    def _first_output(self) -> Array:
        """Return a copy of the first output; sessions may have a shorter way to it."""
        return next(iter(self.outputs().values()))


def check_sizes(
    specs: Sequence[TensorSpec], arrays: Sequence[Array], free_batch: bool = False
) -> None:
    """Check that arrays have the fixed sizes of their tensors.

    Args:
        specs: the input tensors.
        arrays: an array for each.
        free_batch: whether the first size of a tensor may differ, which the runtime then resizes.

    Raises:
        TargetError: a shape does not fit.
    """
    for spec, array in zip(specs, arrays, strict=True):
        first = 1 if free_batch else 0
        if array.ndim != len(spec.shape) or any(
            size not in (None, actual)
            for size, actual in zip(spec.shape[first:], array.shape[first:], strict=True)
        ):
            raise TargetError(
                f"the input {spec.name} takes shape {describe_shape(spec.shape)}, not"
                f" {describe_shape(array.shape)}"
            )


def describe_shape(shape: Sequence[int | None]) -> str:
    """Return a shape as text, such as "any x 28 x 28 x 1"."""
    return " x ".join("any" if size is None else str(size) for size in shape) or "()"


def check_dtype(name: str, dtype: Any, side: str = "input") -> str:
    """Return the name of a tensor's dtype, if sessions can feed and read it.

    Args:
        name: the name of the tensor.
        dtype: its NumPy dtype, or a text that names a dtype of the runtime.
        side: "input" or "output".

    Raises:
        TargetError: the tensor holds neither numbers nor booleans.
    """
    try:
        numpy_dtype = np.dtype(dtype)
    except TypeError:
        numpy_dtype = None
    if numpy_dtype is None or numpy_dtype.kind not in "biuf":
        is_text = numpy_dtype is not None and numpy_dtype.kind in "SUO"
        kind = "string" if is_text else getattr(numpy_dtype, "name", dtype)
        raise TargetError(
            f"the {side} {make_printable(name)} is of type {kind}; lenet-edge runs models of"
            " integers, floats and booleans, so cut the other operators off the model"
        )
    return numpy_dtype.name


def quantize(values: Array, spec: TensorSpec) -> Array:
    """Convert values to the dtype of an input tensor.

    Args:
        values: an array of any shape. Real numbers for a quantized tensor are rounded to nearest
            and clipped. Values of the tensor's own dtype are taken as they are.
        spec: the input tensor. Without a scale, its integers are pixels, indexes or counts.

    Returns:
        An array of dtype `spec.dtype` and of the same shape.

    Source: TensorFlow Lite 8-bit quantization specification, real = scale * (q - zero_point).
    """
    dtype = np.dtype(spec.dtype)
    if values.dtype == dtype or dtype.kind in "fb":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if spec.scale is None and values.dtype.kind != "f":
        if not np.can_cast(values.dtype, dtype):
            own = np.iinfo(values.dtype)
            values = np.clip(values, max(own.min, limits.min), min(own.max, limits.max))
        return values.astype(dtype)
    # float32 represents all integers of 16 bits, and float64 all of 32.
    real: Any = np.float32
    highest = limits.max
    if dtype.itemsize > 2:
        real = np.float64
        highest = min(highest, 2**63 - 1024)  # the largest integer of 64 bits in float64
    steps: Array = np.asarray(values / real(spec.scale or 1), real)
    np.rint(steps, out=steps)
    steps += real(spec.zero_point or 0)
    np.clip(steps, limits.min, highest, out=steps)
    return steps.astype(dtype)


def dequantize(values: Array, spec: TensorSpec, copy: bool = True) -> Logits:
    """Dequantize the values of an output tensor.

    Args:
        values: an array of dtype `spec.dtype` and any shape.
        spec: the output tensor.
        copy: whether to copy values that are float32 already.

    Returns:
        float32 of the same shape.
    """
    if spec.scale is None or values.dtype.kind == "f":
        return values.astype(np.float32, copy=copy)
    steps = values.astype(np.float32) - np.float32(spec.zero_point or 0)
    return np.asarray(steps * np.float32(spec.scale))
