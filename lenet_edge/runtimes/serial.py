"""Boards on a serial port, with the firmware of ``export --format firmware``.

The target ``serial:/dev/ttyACM0`` names the port. The firmware contains a C file. A session opens
only the same C file, proven by its hash. The board counts its cycles during each call.
"""

from __future__ import annotations

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import TargetError
from lenet_edge.microcontrollers.serial import COUNTERS, BoardConnection, FirmwareFacts
from lenet_edge.microcontrollers.serial_port import SerialPort
from lenet_edge.runtimes import NOT_BY_DEFAULT
from lenet_edge.runtimes._buffers import BufferSession
from lenet_edge.runtimes.native import Interface, bind_outputs, read_file, tensor_bytes
from lenet_edge.target import Array, Session, Target

TARGETS = (
    Target(
        name="serial",
        runtime="serial",
        formats=("native",),
        device="mcu",
        delegate=None,
        package="",
        extra="",
        preference=NOT_BY_DEFAULT + 5,
        measures="cycles",
        parameter="PORT",
    ),
)


class SerialSession(BufferSession):
    """Session on a board, which computes one image after the other.

    Attributes:
        counts: the count of each call so far, in the unit of the board's counter.
    """

    def __init__(
        self,
        board: BoardConnection,
        interface: Interface,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        super().__init__()
        self._board, self._interface = board, interface
        self.input_specs, self.output_specs = inputs, outputs
        self.counts: list[int] = []
        self.runtime_version = f"firmware, counts {COUNTERS[board.facts.counter]}"

    @property
    def facts(self) -> FirmwareFacts:
        """The description that the board sent."""
        return self._board.facts

    def _bind(self, arrays: list[Array]) -> None:
        self._inputs = [np.zeros(array.shape, array.dtype) for array in arrays]
        self._outputs = bind_outputs(self._interface, arrays, self.output_specs)

    def infer(self) -> None:
        """Send each image to the board, and keep its outputs and its count."""
        count = self._inputs[0].size // self._interface.sizes[0]
        images = [array.reshape(count, -1) for array in self._inputs]
        results = [array.reshape(count, -1) for array in self._outputs]
        for number in range(count):
            payload = b"".join(array[number].tobytes() for array in images)
            reply, ticks = self._board.infer(payload)
            self.counts.append(ticks)
            for result in results:
                size = result[number].nbytes
                result[number] = np.frombuffer(reply[:size], result.dtype)
                reply = reply[size:]

    def close(self) -> None:
        """Close the port."""
        self._board.close()


def absence(target: Target) -> str | None:
    """Return the reason if no port is named, or None."""
    if ":" in target.name:
        return None
    return "name the port of a board that has the firmware, such as serial:/dev/ttyACM0"


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Connect to the board, and check that its firmware contains this C file."""
    reason = absence(target)
    if reason:
        raise TargetError(reason)
    interface, inputs, outputs = read_file(artifact)
    path = target.name.partition(":")[2]
    port = SerialPort(path)
    try:
        board = BoardConnection(port, path)
        _check_model(artifact, board.facts, path)
        sizes = [tensor.size for tensor in (*board.facts.inputs, *board.facts.outputs)]
        if sizes != tensor_bytes(interface, inputs, outputs):
            raise TargetError(
                f"the firmware at {path} has tensors of other sizes than {artifact.name}; export"
                " and flash the firmware again"
            )
    except BaseException:
        port.close()
        raise
    return SerialSession(board, interface, inputs, outputs)


def _check_model(artifact: Artifact, facts: FirmwareFacts, path: str) -> None:
    """Check that a board has the C file of an artifact.

    Raises:
        TargetError: it has another C file.
    """
    if facts.sha256 != artifact.sha256:
        raise TargetError(
            f"the firmware at {path} contains another C file (sha256 {facts.sha256[:12]}) than"
            f" {artifact.name} ({artifact.sha256[:12]}); export and flash the firmware again"
        )
