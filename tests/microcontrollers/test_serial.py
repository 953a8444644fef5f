"""The serial protocol: its frames, what a damaged line does to it, and boards that do not reply."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import re
import socket
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_edge.errors import TargetError
from lenet_edge.microcontrollers import serial, serial_port
from lenet_edge.microcontrollers.serial import BoardConnection, FrameReader, make_frame
from lenet_edge.microcontrollers.serial_port import SerialPort
from tests.microcontrollers.serial_board import (
    INPUT_BYTES,
    FaultyLine,
    LocalBoard,
    expected,
)

pytestmark = [pytest.mark.costly, pytest.mark.needs("cc")]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> LocalBoard:
    return LocalBoard(tmp_path_factory.mktemp("board"))


def test_a_frame_has_the_documented_bytes() -> None:
    frame = make_frame(2, 0x01020304, b"ab")
    body = b"\x02\x04\x03\x02\x01\x02\x00\x00\x00ab"
    assert frame == b"\xa5\x5a" + body + zlib.crc32(body).to_bytes(4, "little")
    reader = FrameReader()
    text = b"lenet: PASS\r\n\xa5" + frame[:5]
    assert list(reader.feed(text)) == []
    assert list(reader.feed(frame[5:] + frame)) == [(2, 0x01020304, b"ab")] * 2


def test_a_board_describes_itself_and_infers(board: LocalBoard) -> None:
    connection = BoardConnection(board, "here")
    facts = connection.facts
    assert facts.sha256 == "010203" + 29 * "00"
    assert (facts.counter, facts.counter_hz) == (1, 64_000_000)
    assert [(tensor.dtype, tensor.size) for tensor in (*facts.inputs, *facts.outputs)] == [
        ("int8", 9), ("uint8", 15), ("int8", 4), ("float32", 4)
    ]  # fmt: skip
    inputs = bytes(range(INPUT_BYTES))
    assert connection.infer(inputs) == (expected(inputs), 7)
    with pytest.raises(TargetError, match="refuses the request: the length of the input is wrong"):
        connection.infer(b"short")
    board.write(make_frame(9, 1))
    (frame,) = FrameReader().feed(board.read(0))
    assert frame == (0xFF, 1, b"\x01")


def test_a_person_can_ask_for_the_self_test(board: LocalBoard) -> None:
    board.reset()
    board.read(0)
    board.write(b"tetest\n")
    assert board.read(0) == b"small: PASS, 0 of 0 images\r\n"


def test_the_largest_request_that_was_cut_off_does_not_block_the_next(board: LocalBoard) -> None:
    board.reset()
    board.write(make_frame(2, 5, bytes(INPUT_BYTES))[:12])
    assert BoardConnection(board, "here").facts.counter == 1


@pytest.mark.parametrize("seed", range(3))
def test_no_fault_gives_a_wrong_output(board: LocalBoard, seed: int) -> None:
    """At least 1,000 faults; each call ends with the right outputs, or with one line."""
    line = FaultyLine(board, board.reset, seed, share=0.4)
    values, right, refused = random.Random(seed), 0, 0
    lines: set[str] = set()
    connection: BoardConnection | None = None
    while sum(line.faults.values()) < 1000:
        inputs = values.randbytes(INPUT_BYTES)
        try:
            connection = connection or BoardConnection(line, "here")
            assert connection.infer(inputs)[0] == expected(inputs)
            right += 1
        except TargetError as error:
            lines.add(str(error))
            refused += 1
    assert all(re.search("at here (replies no more|does not reply)", each) for each in lines)
    assert min(line.faults.values()) > 50
    assert right > 500
    assert refused < right / 50


class Deaf:
    """A port on which nothing arrives."""

    def write(self, content: bytes) -> None:
        self.written = content

    def read(self, timeout_s: float) -> bytes:
        return b""

    def close(self) -> None:
        pass


def test_a_board_that_never_replies_is_one_line(board: LocalBoard) -> None:
    with pytest.raises(TargetError, match=r"^the board at /dev/x does not reply; flash the firm"):
        BoardConnection(Deaf(), "/dev/x")
    connection = BoardConnection(board, "/dev/x")
    connection._port = Deaf()
    with pytest.raises(TargetError, match=r"^the board at /dev/x replies no more, after 8"):
        connection.infer(bytes(INPUT_BYTES))


class Babbling(Deaf):
    """A port on which bytes arrive without end, and no reply."""

    def read(self, timeout_s: float) -> bytes:
        return b"\xa5\x5a\x82" + bytes(40)


def test_a_stream_without_end_is_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "_LONGEST_TIMEOUT_S", 0.01)
    monkeypatch.setattr(serial, "BYTES_PER_SECOND", 1e9)
    with pytest.raises(TargetError, match="does not reply"):
        BoardConnection(Babbling(), "/dev/x", first_timeout_s=0.01)


def test_firmware_of_another_version_is_refused(board: LocalBoard) -> None:
    facts = serial._FACTS.pack(2, 1, 0, 0, 0, bytes(32))
    with pytest.raises(TargetError, match="has version 2 of the protocol, and lenet-edge 1"):
        serial.FirmwareFacts.parse(facts)
    for damaged in (facts[:9], b"\x01\x09" + facts[2:], b"\x01\x01\x01" + facts[3:]):
        with pytest.raises(TargetError, match="describes itself wrongly"):
            serial.FirmwareFacts.parse(damaged)


def test_ports_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"there is no port .*; connect the board, and list"):
        SerialPort(str(tmp_path / "ttyACM0"))
    (tmp_path / "file").touch()
    with pytest.raises(TargetError, match="is no serial port; name one: /dev/ttyACM0"):
        SerialPort(str(tmp_path / "file"))
    with pytest.raises(TargetError, match="cannot be opened: Is a directory"):
        SerialPort(str(tmp_path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(TargetError, match="cannot be opened: Connection refused"):
            SerialPort(str(tmp_path / "socket"))


def test_a_terminal_carries_all_bytes_for_one_process(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    content = bytes(range(256)) * 2
    try:
        port = SerialPort(os.ttyname(slave))
        port.write(content)
        assert read_all(lambda: os.read(master, 4096), len(content)) == content
        os.write(master, content)
        assert read_all(lambda: port.read(5), len(content)) == content
        assert port.read(0.01) == b""
        with pytest.raises(TargetError, match=r"another program has opened .*; close it"):
            SerialPort(os.ttyname(slave))
    finally:
        os.close(slave)
        os.close(master)
    with pytest.raises(TargetError, match="disconnected"):
        port.read(5)
    port.close()


def test_a_write_that_is_too_late_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "_WRITE_TIMEOUT_S", -60)  # as if the process was stopped
    master, slave = pty.openpty()
    with contextlib.closing(SerialPort(os.ttyname(slave))) as port:
        with pytest.raises(TargetError, match="takes no bytes; reset it"):
            port.write(b"x")
    os.close(slave)
    os.close(master)


def read_all(read: Callable[[], bytes], size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += read()
    return content
