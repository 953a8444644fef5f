"""Target (a runtime on a device) and session (an artifact opened on a target)."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.errors import TargetError

# The delegate that a TFLite interpreter applies by default. It runs on the interpreter's own CPU.
DEFAULT_DELEGATE = "XNNPACK"

Images = npt.NDArray[np.float32]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Target:
    """Runtime on a device, with a delegate or without.

    Attributes:
        name: ``<runtime>-<delegate or device>``, such as litert-xnnpack.
        runtime: name of the runtime.
        formats: names of the formats that it runs.
        device: "cpu", "gpu" or "npu".
        delegate: name of the delegate or execution provider; None for none.
        package: Python package of the runtime.
        extra: extra of lenet-edge that installs the package.
        preference: rank among the targets of a format; the lowest is the first choice.
        library: path of an external TFLite delegate, a shared library; None for none.
        options: keys and values to create the delegate with.
        allow_fallback: whether the delegate may leave nodes to the CPU.
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

    Only `infer` is inference. `bench` times `prepare` (quantize, rearrange, copy in) and `logits`
    (copy out, dequantize) separately, so that a latency never includes them.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The input tensors."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The output tensors."""

    @property
    def runtime_version(self) -> str:
        """The version of the runtime."""

    @property
    def delegation(self) -> Delegation | None:
        """The part that a delegate runs, known after `prepare`; None without a delegate."""

    def prepare(self, images: Images) -> None:
        """Load a batch into the input tensor.

        Args:
            images: float32 of shape (batch, height, width, channels), scaled as in training. The
                session adapts to the batch size.
        """

    def infer(self) -> None:
        """Run the model on the batch that `prepare` loaded."""

    def logits(self) -> Logits:
        """Return the logits of the last `infer`, float32 of shape (batch, classes)."""

    def close(self) -> None:
        """Release the resources of the session."""


def check_one_input_one_output(inputs: Sized, outputs: Sized) -> None:
    """Check that a model has exactly one input and one output.

    Args:
        inputs: the inputs of the model.
        outputs: the outputs of the model.

    Raises:
        TargetError: the model has another number of inputs or outputs.
    """
    if len(inputs) != 1 or len(outputs) != 1:
        raise TargetError(
            f"the model has {len(inputs)} inputs and {len(outputs)} outputs;"
            " lenet-edge runs classifiers with one input and one output"
        )


def quantize(images: Images, spec: TensorSpec) -> npt.NDArray[Any]:
    """Quantize images to the dtype of an input tensor, rounding to nearest and clipping.

    Args:
        images: float32 of any shape.
        spec: the input tensor. Without a scale, its integers are pixels.

    Returns:
        An array of dtype `spec.dtype` and of the same shape.

    Source: TensorFlow Lite 8-bit quantization specification, real = scale * (q - zero_point).
    """
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return images.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    steps = images / np.float32(spec.scale or 1)
    np.rint(steps, out=steps)
    steps += np.float32(spec.zero_point or 0)
    np.clip(steps, limits.min, limits.max, out=steps)
    return steps.astype(dtype)


def dequantize(values: npt.NDArray[Any], spec: TensorSpec) -> Logits:
    """Dequantize the values of an output tensor.

    Args:
        values: an array of dtype `spec.dtype` and any shape.
        spec: the output tensor.

    Returns:
        float32 of the same shape; always a copy.
    """
    if spec.scale is None or values.dtype.kind == "f":
        return values.astype(np.float32, copy=True)
    return (values.astype(np.float32) - np.float32(spec.zero_point or 0)) * np.float32(spec.scale)
