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
from lenet_edge.runtimes._tflite import plain_interpreter, state_of, tensor_specs
from lenet_edge.target import (
    Array,
    InputValues,
    Session,
    Target,
    TensorSession,
    check_sizes,
    describe_shape,
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
_MAX_TENSORS = 1000


class MicroSession(TensorSession):
    """Session over a `tflite_micro` interpreter, which supports only the batch size of the file.

    A larger batch is several invocations, each with its copies.
    """

    def __init__(self, artifact: Artifact) -> None:
        content = artifact.path.read_bytes()
        self.arena_bytes = smallest_arena(content, artifact.name)
        self._micro = _open(content, self.arena_bytes)
        inputs, outputs, self.state = _tensors(str(artifact.path), self._micro)
        self.input_specs, self.output_specs = tensor_specs(inputs), tensor_specs(outputs, "output")
        self._shapes = [tuple(map(int, details["shape"])) for details in inputs]
        self.runtime_version = importlib.metadata.version("tflite-micro")

    def prepare(self, values: InputValues) -> None:
        """Quantize the values, and set the first batch as the input."""
        arrays = self.arrays(values)
        check_sizes(self.input_specs, arrays, free_batch=True)
        counts = {
            array.shape[0] / shape[0]
            for array, shape in zip(arrays, self._shapes, strict=True)
            if shape
        }
        count = counts.pop() if counts else 1.0
        if counts or count < 1 or not count.is_integer():
            sizes = ", ".join(map(describe_shape, self._shapes))
            raise TargetError(
                f"tflite-micro takes inputs of {sizes} at a time, not"
                f" {', '.join(describe_shape(array.shape) for array in arrays)}"
            )
        splits = [
            np.split(array, int(count)) if array.ndim else [array] * int(count) for array in arrays
        ]
        self._parts = list(zip(*splits, strict=True)) or [()]
        self._set_input(self._parts[0])

    def _set_input(self, part: tuple[Array, ...]) -> None:
        for number, array in enumerate(part):
            self._micro.set_input(array, number)

    def infer(self) -> None:
        """Invoke the interpreter once for each batch of the file's size."""
        self._micro.invoke()
        if len(self._parts) == 1:
            return
        self._results = [self._read()]
        for part in self._parts[1:]:
            self._set_input(part)
            self._micro.invoke()
            self._results.append(self._read())
        self._set_input(self._parts[0])  # for the next call of infer

    def _read(self) -> list[Array]:
        return [self._micro.get_output(number) for number in range(len(self.output_specs))]

    def outputs(self) -> dict[str, Array]:
        """Copy the results out."""
        results = [self._read()] if len(self._parts) == 1 else self._results
        return {
            spec.name: np.concatenate(each) if spec.shape else each[-1]
            for spec, each in zip(self.output_specs, zip(*results, strict=True), strict=True)
        }

    def close(self) -> None:
        """Drop the interpreter."""
        del self._micro


def _tensors(
    path: str, micro: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str | None]:
    """Return the details of the inputs and outputs as LiteRT's interpreter has them, and the state.

    If LiteRT cannot open the file, for example because of an operator that only tflite-micro has,
    tflite-micro states the details. It knows no names.
    """
    try:
        plain = plain_interpreter(path)
        return plain.get_input_details(), plain.get_output_details(), state_of(plain)
    except TargetError:
        raise
    except Exception:  # the interpreter raises RuntimeError and ValueError
        return (
            _listed(micro.get_input_details, "input"),
            _listed(micro.get_output_details, "output"),
            None,
        )


def _listed(details_of: Any, name: str) -> list[dict[str, Any]]:
    """Return the details of the tensors of one side."""
    listed: list[dict[str, Any]] = []
    while len(listed) < _MAX_TENSORS:
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
