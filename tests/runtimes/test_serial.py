"""A board at a serial port: from a .tflite file to a verdict, with an emulated board."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import lenet_edge as le
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.data import mnist
from lenet_edge.errors import TargetError
from lenet_edge.export import firmware
from lenet_edge.microcontrollers.serial import BoardConnection
from lenet_edge.microcontrollers.serial_port import SerialPort
from lenet_edge.results.result_file import BenchRun
from lenet_edge.runtimes import absence, find_targets, get_target, open_session
from lenet_edge.target import Target
from tests.conftest import LenetEdge
from tests.microcontrollers.serial_board import FaultyLine
from tests.reference_kernels import predict_batch

pytestmark = [
    pytest.mark.costly,
    pytest.mark.needs("cmake", "arm-none-eabi-gcc", "qemu-system-arm", "cc"),
]
EXPORTED = Path(__file__).parents[2] / "exported"
FILE, TFLITE = "lenet_native_int8.c", EXPORTED / "lenet_int8.tflite"
# Its UART has a FIFO, so that QEMU carries bytes fast.
BOARD = "lm3s6965evb"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the firmware of a C file and build it; return the folder of the C file."""
    folder = tmp_path_factory.mktemp("exported")
    for name in (FILE, f"{FILE}.json"):
        shutil.copy(EXPORTED / name, folder / name)
    board = firmware.find_firmware_board(BOARD)
    footprint = firmware.check((folder / FILE).read_bytes(), FILE, board)
    firmware.write(load_artifact(folder / FILE), TFLITE, images(10), board, footprint)
    project = folder / f"lenet_native_int8_{BOARD}"
    subprocess.run(["cmake", "-B", "build"], cwd=project, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", "build"], cwd=project, check=True, capture_output=True)
    return folder


@dataclass
class EmulatedBoard:
    """An emulated board: its serial port, and the socket of QEMU's monitor."""

    port: Path
    monitor: Path

    def reset(self) -> None:
        """Press the reset button."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.monitor))
            connection.settimeout(20)
            connection.sendall(b"system_reset\n")
            seen = b""
            while seen.count(b"(qemu)") < 2:
                seen += connection.recv(4096)


@pytest.fixture
def board(exported: Path, tmp_path: Path) -> Iterator[EmulatedBoard]:
    made = EmulatedBoard(tmp_path / "port", tmp_path / "monitor")
    program = exported / f"lenet_native_int8_{BOARD}" / "build" / "firmware.elf"
    options = ["-display", "none", "-icount", "shift=6", "-kernel", str(program)]
    for option, path in (("-monitor", made.monitor), ("-serial", made.port)):
        options += [option, f"unix:{path},server=on,wait=off"]
    command = ["qemu-system-arm", "-M", BOARD, *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as qemu:
        deadline = time.monotonic() + 60
        while not (made.port.exists() and made.monitor.exists()):
            assert qemu.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        try:
            yield made
        finally:
            qemu.kill()


def images(count: int) -> npt.NDArray[np.uint8]:
    return mnist.load("test").images[:count]


def test_a_file_is_verified_on_the_board(
    lenet_edge_here: LenetEdge, exported: Path, board: EmulatedBoard, tmp_path: Path
) -> None:
    np.savez(tmp_path / "few.npz", images=images(10), labels=mnist.load("test").labels[:10])
    report = tmp_path / "report.json"
    result = lenet_edge_here(
        "verify", exported / FILE, "--target", f"serial:{board.port}",
        "--reference", TFLITE, "--data", tmp_path / "few.npz", "--json", report,
    )  # fmt: skip
    (parity,) = json.loads(report.read_text())["parity"]
    assert parity["target"] == f"serial:{board.port}"
    assert parity["top1_agreement"] == 1
    assert parity["max_abs_error"] < 0.16  # XNNPACK rounds a logit to another step of 0.156
    assert result.returncode == 4  # ten images are too few to pass


def test_bench_counts_the_cycles_of_the_board(
    lenet_edge_here: LenetEdge, exported: Path, board: EmulatedBoard, tmp_path: Path
) -> None:
    target, file = f"serial:{board.port}", exported / FILE
    result = lenet_edge_here("bench", file, "--target", target, "--json", tmp_path / "run.json")
    assert result.returncode == 0, result.stderr
    run = BenchRun.load(tmp_path / "run.json")
    (count,) = run.cycle_counts
    assert (count.artifact, count.target, count.images) == (FILE, target, 30)
    assert (count.unit, count.counter_hz) == ("processor cycles (SysTick)", 12_000_000)
    assert 100_000 < count.minimum <= count.median <= count.maximum < 1_000_000
    assert not run.measurements
    assert f"{count.median:,.0f}" in result.stdout
    assert "They are not ranked" in " ".join(result.stdout.split())


def test_bench_writes_cycles_and_latencies_to_a_stream_once(
    exported: Path, board: EmulatedBoard, tmp_path: Path
) -> None:
    stream = tmp_path / "stream"
    os.mkfifo(stream)
    with ThreadPoolExecutor(1) as pool:
        text = pool.submit(stream.read_text)
        le.bench(
            exported / FILE, target=[f"serial:{board.port}", "native-cpu"], batch_size=1,
            min_time=0.01, max_time=0.1, rounds=1, json=stream, progress=None,
        )  # fmt: skip
    facts = json.loads(text.result())
    assert len(facts["cycle_counts"]) == len(facts["measurements"]) == 1


def test_another_file_than_that_of_the_firmware_is_refused(board: EmulatedBoard) -> None:
    other = load_artifact(EXPORTED / "lenet_native_dynamic.c")
    with pytest.raises(TargetError, match=r"contains another C file \(sha256 \w{12}\) than"):
        open_session(other, get_target(f"serial:{board.port}"))


@pytest.mark.slow
def test_faults_and_resets_give_no_wrong_output(exported: Path, board: EmulatedBoard) -> None:
    path = str(board.port)
    pixels = images(10).reshape(-1, 784)
    inputs = (pixels.astype(np.int16) - 128).astype(np.int8)
    expected = predict_batch(TFLITE.read_bytes(), inputs.reshape(-1, 28, 28, 1))
    line = FaultyLine(SerialPort(path), board.reset, seed=3, share=0.4)
    with contextlib.closing(BoardConnection(line, path)) as connection:
        for image, logits in zip(inputs, expected, strict=True):
            outputs, count = connection.infer(image.tobytes())
            np.testing.assert_array_equal(np.frombuffer(outputs, np.int8), logits)
            assert 100_000 < count < 1_000_000
    assert sum(line.faults.values()) >= 5


def test_the_target_names_a_port() -> None:
    assert find_targets("serial:/dev/ttyACM0") == (get_target("serial:/dev/ttyACM0"),)
    target = get_target("serial:/dev/ttyACM0")
    assert (target.name, target.runtime) == ("serial:/dev/ttyACM0", "serial")
    assert Target.from_json(vars(target)) == target
    assert "such as serial:/dev/ttyACM0" in (absence(get_target("serial")) or "")
    for name in ("serial:", "native-cpu:1"):
        with pytest.raises(TargetError, match=re.escape(f"unknown target {name!r}")):
            get_target(name)


def test_without_a_port_the_reason_is_one_line(lenet_edge_here: LenetEdge) -> None:
    file = EXPORTED / FILE
    for target, reason, status in (
        ("serial", "name the port of a board that has the firmware, such as serial:/dev", 1),
        (
            "serial:/dev/nothing",
            "there is no port /dev/nothing; connect the board, and list: ls",
            3,
        ),
    ):
        result = lenet_edge_here("verify", file, "--target", target)
        assert result.returncode == status
        assert reason in " ".join(result.stdout.split())
