"""Session whose inputs and outputs are buffers at fixed addresses, bound once for each batch."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from lenet_edge.target import Array, InputValues, TensorSession, check_sizes


class BufferSession(TensorSession):
    """Base of the sessions that copy values into buffers, and outputs out of them."""

    def __init__(self) -> None:
        self._inputs: list[Array] = []
        self._outputs: list[Array] = []

    def prepare(self, values: InputValues) -> None:
        """Copy the values into the input buffers, quantized if the file takes integers."""
        arrays = self.arrays(values)
        if [array.shape for array in arrays] != [array.shape for array in self._inputs]:
            check_sizes(self.input_specs, arrays, free_batch=True)
            self._bind(arrays)
        for buffer, array in zip(self._inputs, arrays, strict=True):
            np.copyto(buffer, array)

    @abstractmethod
    def _bind(self, arrays: list[Array]) -> None:
        """Create the buffers and the call for arrays of these shapes."""

    def outputs(self) -> dict[str, Array]:
        """Return a copy of each output."""
        return {
            spec.name: buffer.copy()
            for spec, buffer in zip(self.output_specs, self._outputs, strict=True)
        }
