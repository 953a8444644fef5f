"""A target is a runtime on a device; a session is one model file opened on it."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.errors import TargetError

Images = npt.NDArray[np.float32]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Target:
    """One way to run a model file, named ``<runtime>-<delegate or device>``.

    `package` is the Python package behind it and `extra` the extra of lenet-edge that installs
    it. Among the targets that run a format, the lowest `preference` is the one to choose first.
    `library` is an external TFLite delegate, a shared library of the user's, and `options` are
    what it is created with. With `allow_fallback` a delegate may leave nodes to the CPU.
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
        """Return the Target with these fields, as a worker gets them."""
        options = tuple((name, value) for name, value in facts["options"])
        return cls(**{**facts, "formats": tuple(facts["formats"]), "options": options})


@dataclass(frozen=True)
class Delegation:
    """What was asked of a delegate, a device or a provider, and what it really took.

    `left_behind` are the nodes that stayed on the CPU, each as "KIND name". The multiply-accumulate
    operations (`macs_total`, `macs_taken`) are those of one image, None where nothing that is
    installed can count them. `device` is what the device calls itself; `emulated` tells a software
    GPU or NPU. `precision` is what it computes in, None where that goes by the file.
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
        """Whether everything was taken."""
        return self.nodes_taken >= self.nodes_total

    def __str__(self) -> str:
        where = f" on {self.device}" if self.device else ""
        soft = " (software)" if self.emulated else ""
        macs = f" and {self.macs_taken / self.macs_total:.0%} of the multiplications" if (
            self.macs_total and self.macs_taken is not None
        ) else ""  # fmt: skip
        kind = f", in {self.precision}" if self.precision else ""
        return (
            f"{self.delegate} took {self.nodes_taken} of {self.nodes_total} nodes{macs}{where}"
            f"{soft}{kind}"
        )

    @classmethod
    def from_json(cls, facts: dict[str, Any] | None) -> Delegation | None:
        """Return the Delegation that JSON holds; None where nothing was delegated."""
        if facts is None:
            return None
        return cls(**{**facts, "left_behind": tuple(facts["left_behind"])})


class Session(Protocol):
    """A model file opened on a target; close it with `contextlib.closing`.

    Only `infer` is inference. `prepare` (quantize, lay out, copy in) and `logits` (copy out,
    dequantize) are timed apart, so that they never hide in a latency.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The input tensors."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The output tensors."""

    @property
    def runtime_version(self) -> str:
        """The version of the runtime that runs it."""

    @property
    def delegation(self) -> Delegation | None:
        """What a delegate took, known once a batch is prepared; None where none was asked."""

    def prepare(self, images: Images) -> None:
        """Load a batch into the input tensor.

        Args:
            images: float32 of shape (batch, height, width, channels), already scaled as the
                model was trained. The session adapts itself to another batch size here.
        """

    def infer(self) -> None:
        """Run the model on what `prepare` loaded."""

    def logits(self) -> Logits:
        """Return the outputs of the last `infer` as float32 of shape (batch, classes)."""

    def close(self) -> None:
        """Give back what the session holds."""


def check_one_input_one_output(inputs: Sized, outputs: Sized) -> None:
    """Refuse a model that has not one input and one output.

    Raises:
        TargetError: it has more of either.
    """
    if len(inputs) != 1 or len(outputs) != 1:
        raise TargetError(
            f"the model has {len(inputs)} inputs and {len(outputs)} outputs;"
            " lenet-edge runs classifiers with one of each"
        )


def quantize(images: Images, spec: TensorSpec) -> npt.NDArray[Any]:
    """Return `images` as the integers (or floats) that the tensor `spec` holds.

    Source: TensorFlow Lite 8-bit quantization specification, real = scale * (q - zero_point).
    """
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return images.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    steps = images / np.float32(spec.scale or 1)  # no scale: the integers are the pixels
    np.rint(steps, out=steps)
    steps += np.float32(spec.zero_point or 0)
    np.clip(steps, limits.min, limits.max, out=steps)
    return steps.astype(dtype)


def dequantize(values: npt.NDArray[Any], spec: TensorSpec) -> Logits:
    """Return the real numbers, float32, that the integers of tensor `spec` stand for."""
    if spec.scale is None or values.dtype.kind == "f":
        return values.astype(np.float32, copy=True)
    return (values.astype(np.float32) - np.float32(spec.zero_point or 0)) * np.float32(spec.scale)
