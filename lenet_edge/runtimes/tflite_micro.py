"""TensorFlow Lite for Microcontrollers on this machine.

It uses the portable kernels. Its results and its arena size hold for a microcontroller, its
latency does not.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import TargetError
from lenet_edge.runtimes._tflite import only_tensors, plain_interpreter, tensor_spec
from lenet_edge.target import (
    Delegation,
    Images,
    Logits,
    Session,
    Target,
    check_one_input_one_output,
    dequantize,
    quantize,
)

TARGETS = (
    Target(
        name="tflite-micro-cpu",
        runtime="tflite-micro",
        formats=("tflite",),
        device="cpu",
        delegate=None,
        package="tflite_micro",
        extra="micro",
        preference=95,
    ),
)

ALIGNMENT = 16  # bytes, of the arena; required by TensorFlow Lite for Microcontrollers
_MAX_ARENA_BYTES = 64 << 20


class MicroSession:
    """Session over a `tflite_micro` interpreter, which supports only the batch size of the file.

    A larger batch is several invocations, each with its copies.
    """

    delegation: Delegation | None = None

    def __init__(self, artifact: Artifact) -> None:
        content = artifact.path.read_bytes()
        self.arena_bytes = smallest_arena(content, artifact.name)
        self._micro = _open(content, self.arena_bytes)
        input_details, output_details = _tensors(str(artifact.path), self._micro)
        self.inputs = (tensor_spec(input_details),)
        self.outputs = (tensor_spec(output_details),)
        self._batch_size = int(input_details["shape"][0])
        self.runtime_version = importlib.metadata.version("tflite-micro")

    def prepare(self, images: Images) -> None:
        """Quantize the images, and set the first batch as the input."""
        if images.shape[1:] != self.inputs[0].shape[1:] or len(images) % self._batch_size:
            raise TargetError(
                f"tflite-micro takes images of shape {self.inputs[0].shape[1:]},"
                f" {self._batch_size} at a time, not {images.shape}"
            )
        values = quantize(images, self.inputs[0])
        self._parts = np.split(values, len(values) // self._batch_size)
        self._micro.set_input(self._parts[0], 0)

    def infer(self) -> None:
        """Invoke the interpreter once for each batch of the file's size."""
        self._micro.invoke()
        if len(self._parts) == 1:
            return
        self._answers = [self._micro.get_output(0)]
        for part in self._parts[1:]:
            self._micro.set_input(part, 0)
            self._micro.invoke()
            self._answers.append(self._micro.get_output(0))
        self._micro.set_input(self._parts[0], 0)  # for the next call of infer

    def logits(self) -> Logits:
        """Copy the answers out and dequantize them."""
        answers = [self._micro.get_output(0)] if len(self._parts) == 1 else self._answers
        return dequantize(np.concatenate(answers), self.outputs[0])

    def close(self) -> None:
        """Drop the interpreter."""
        del self._micro


def _tensors(path: str, micro: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the details of the only input and the only output, as LiteRT's interpreter has them.

    If LiteRT cannot open the file, for example because of an operator that only tflite-micro has,
    tflite-micro states the details. It knows no names.
    """
    try:
        return only_tensors(plain_interpreter(path))
    except TargetError:
        raise
    except Exception:  # the interpreter raises RuntimeError and ValueError
        sides = ("input", "output")
        details = [_listed(getattr(micro, f"get_{side}_details"), side) for side in sides]
        check_one_input_one_output(*details)
        return details[0][0], details[1][0]


def _listed(details_of: Any, name: str) -> list[dict[str, Any]]:
    """Return the details of up to two tensors of one side."""
    listed: list[dict[str, Any]] = []
    while len(listed) < 2:
        try:
            details = details_of(len(listed))
        except IndexError:
            break
        parameters = details["quantization_parameters"]
        scales, zeros = parameters["scales"], parameters["zero_points"]
        quantization = (scales[0], zeros[0]) if len(scales) == 1 else (0.0, 0)
        listed.append({**details, "name": name, "quantization": quantization})
    return listed


def smallest_arena(content: bytes, name: str) -> int:
    """Return the size in bytes of the smallest arena that a .tflite file runs in.

    It is measured with 64-bit pointers. A 32-bit microcontroller needs a little less.

    Raises:
        TargetError: the file runs in no arena. Usually tflite-micro lacks one of its operators.
    """
    fits = ALIGNMENT << 6
    while _open(content, fits) is None:
        fits *= 2
        if fits > _MAX_ARENA_BYTES:
            raise TargetError(
                f"{name} cannot run in tflite-micro: it lacks an operator, or needs more than"
                f" {_MAX_ARENA_BYTES >> 20} MiB; use an int8 or a float32 file"
            )
    too_small = fits // 2 if fits > ALIGNMENT << 6 else 0
    while fits - too_small > ALIGNMENT:
        middle = (fits + too_small) // 2 // ALIGNMENT * ALIGNMENT
        fits, too_small = (middle, too_small) if _open(content, middle) else (fits, middle)
    return fits


def _open(content: bytes, arena_bytes: int) -> Any:
    from tflite_micro.python.tflite_micro import runtime

    try:
        return runtime.Interpreter.from_bytes(content, arena_size=arena_bytes)
    except RuntimeError:
        return None


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open a .tflite file in the smallest arena that it runs in."""
    return MicroSession(artifact)
