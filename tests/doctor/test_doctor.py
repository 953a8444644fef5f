"""Machines with something really wrong with them: each is named, with its cause and its fix."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lenet_edge.doctor import machine
from lenet_edge.doctor.known import FAILURES, explain
from lenet_edge.machine.environment import capture
from tests.conftest import LenetEdge
from tests.machine.test_conditions import tree
from tests.test_import_rules import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# What a board has before any runtime is installed.
BARE = ("click", "rich", "markdown_it", "mdurl", "pygments", "numpy", "numpy.libs")


class Board:
    """A Python of its own that has some of our packages, and no others."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(command, check=True, timeout=60)
        (self.packages,) = folder.glob("lib/python*/site-packages")
        self.python = folder / "bin" / "python"
        (self.packages / "lenet_edge").symlink_to(ROOT / "lenet_edge")

    def add(self, *names: str, copy: bool = False) -> None:
        here = Path(os.fspath(find_spec("click").origin or "")).parents[1]  # type: ignore[union-attr]
        for name in names:
            for path in (here / name, *here.glob(f"{name}-*.dist-info")):
                if path.exists():
                    there = self.packages / path.name
                    shutil.copytree(path, there) if copy else there.symlink_to(path)

    def examine(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        command = [self.python, "-m", "lenet_edge", "doctor", "--json", "-", *arguments]
        done = subprocess.run(
            [str(one) for one in command], capture_output=True, text=True, timeout=300,
            cwd=self.python.parent,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        facts = json.loads(done.stdout)
        return done.returncode, {one["check"]: one for one in facts["findings"]}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "venv")


def test_a_machine_that_is_well(lenet_edge: LenetEdge) -> None:
    done = lenet_edge("doctor", "--json", "report.json", "--job", "host")
    assert done.returncode == 0, done.stdout
    assert "This machine can do its job as a host: train and export." in done.stdout
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 80


def test_a_board_that_is_well(board: Board) -> None:
    board.add(*BARE, "tflite_runtime")
    status, found = board.examine()
    assert status == 0
    assert found["tflite-runtime-cpu"]["status"] == "ok"
    assert found["litert-xnnpack"]["status"] == "note"
    assert found["litert-xnnpack"]["fix"] == "pip install 'lenet-edge[litert]'"
    assert found["pillow"]["cause"] == "predict and serve cannot be used without it"
    status, found = board.examine("--job", "host")
    assert status == 3
    assert found["tensorflow"]["status"] == "failure"


def test_no_runtime(board: Board) -> None:
    board.add(*BARE)
    status, found = board.examine()
    assert status == 3
    assert found["runtimes"]["status"] == "failure"
    assert "pip install 'lenet-edge[litert]'" in found["runtimes"]["fix"]


def test_no_numpy(board: Board) -> None:
    board.add(*(name for name in BARE if not name.startswith("numpy")), "tflite_runtime")
    status, found = board.examine()
    assert status == 3
    assert found["NumPy"]["status"] == "failure"
    assert found["NumPy"]["cause"] == "the package numpy is missing, or only half installed"


def spoil(package: Path, at: int, value: bytes) -> None:
    for library in package.rglob("*.so"):
        content = bytearray(library.read_bytes())
        content[at : at + len(value)] = value
        library.write_bytes(content)


def test_a_runtime_of_another_architecture(board: Board) -> None:
    """A venv that was copied from another machine: the ELF headers name its processor."""
    board.add(*BARE)
    board.add("tflite_runtime", copy=True)
    spoil(board.packages / "tflite_runtime", 18, (40).to_bytes(2, "little"))
    status, found = board.examine()
    assert status == 3
    only = found["tflite-runtime-cpu"]
    assert only["status"] == "warning"
    assert "is for another architecture, arm instead of" in only["found"]
    assert only["cause"].startswith("the library is for another processor")


def test_a_library_that_is_missing(board: Board) -> None:
    """The runtime asks the linker for a library that no system has."""
    board.add(*BARE)
    board.add("tflite_runtime", copy=True)
    for library in (board.packages / "tflite_runtime").rglob("*.so"):
        content = library.read_bytes()
        assert b"libpthread.so.0" in content
        library.write_bytes(content.replace(b"libpthread.so.0", b"libnowhere.so.0"))
    _, found = board.examine()
    only = found["tflite-runtime-cpu"]
    assert "libnowhere.so.0" in only["cause"]
    assert "apt-file search libnowhere.so.0" in only["fix"]


def test_a_runtime_that_is_half_there(board: Board) -> None:
    board.add(*BARE)
    board.add("tflite_runtime", copy=True)
    (board.packages / "tflite_runtime" / "interpreter.py").unlink()
    _, found = board.examine()
    cause = found["tflite-runtime-cpu"]["cause"]
    assert cause.startswith("the package tflite_runtime")
    assert cause.endswith("is missing, or only half installed")


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime ends with Python 3.11")
def test_numpy_2_with_tflite_runtime(board: Board) -> None:
    board.add(*(name for name in BARE if not name.startswith("numpy")), "tflite_runtime")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", board.packages]
    subprocess.run([*map(str, install), "numpy>=2"], check=True, timeout=300)
    status, found = board.examine()
    assert status == 3
    only = found["tflite-runtime-cpu"]
    assert only["cause"].startswith("tflite-runtime was built for NumPy 1")
    assert only["fix"].startswith("pip install 'numpy<2'")


def one(findings: Iterator[Any], check: str) -> Any:
    (found,) = (finding for finding in findings if finding.check == check)
    return found


def test_a_governor_that_saves_power(tmp_path: Path) -> None:
    root = tree(tmp_path, sys__devices__system__cpu__cpu0__cpufreq__scaling_governor="powersave\n")
    found = one(machine.speed(capture(root), ()), "governor")
    assert (found.status, found.found) == ("warning", "powersave")
    assert "tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor" in found.fix


def test_throttling_names_power_or_heat(tmp_path: Path) -> None:
    here = capture(tmp_path)
    power = one(machine.speed(here, ("under-voltage", "throttled")), "throttling")
    heat = one(machine.speed(here, ("soft temperature limit since boot",)), "throttling")
    assert "power supply" in power.cause
    assert "too hot" in heat.cause
    root = tree(tmp_path, sys__class__thermal__thermal_zone0__temp="83000\n")
    assert one(machine.speed(capture(root), ()), "throttling").found == "83 °C"


def test_a_load(tmp_path: Path) -> None:
    root = tree(tmp_path, proc__loadavg="99.00 1.00 0.50 2/200 999\n")
    assert one(machine.speed(capture(root), ()), "load").status == "warning"


def test_little_memory(tmp_path: Path) -> None:
    root = tree(tmp_path, proc__meminfo="MemTotal: 500000 kB\nMemAvailable: 1000000 kB\n")
    assert one(machine.room("board", tmp_path, root), "memory").status == "ok"
    assert one(machine.room("host", tmp_path, root), "memory").status == "warning"
    cgroup = root / "sys" / "fs" / "cgroup"
    cgroup.mkdir(parents=True)
    (cgroup / "memory.max").write_text("100000000\n")
    (cgroup / "memory.current").write_text("60000000\n")
    found = one(machine.room("board", tmp_path, root), "memory")
    assert (found.status, found.found) == ("warning", "0.04 GiB available")


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Take away what root may, for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_device_that_this_user_may_not_open(tmp_path: Path, as_nobody: None) -> None:
    root = Path("/tmp") / f"lenet-edge-{os.getpid()}"  # pytest's own folder is closed to others
    device = root / "dev" / "dri" / "renderD128"
    device.parent.mkdir(parents=True)
    try:
        device.touch()
        assert [found.status for found in machine.devices(root)] == ["ok"]
        device.chmod(0)
        (found,) = machine.devices(root)
        assert found.status == "warning"
        assert "usermod -aG render" in found.fix
        root.chmod(0o500)
        assert one(machine.room("board", root), "folder").status == "warning"
    finally:
        root.chmod(0o700)
        shutil.rmtree(root)


def test_files_that_were_changed(tmp_path: Path) -> None:
    for name in ("lenet_int8.tflite", "lenet_int8.tflite.json"):
        shutil.copy(ROOT / "exported" / name, tmp_path / name)
    assert [found.status for found in machine.files(tmp_path)] == ["ok"]
    with (tmp_path / "lenet_int8.tflite").open("ab") as file:
        file.write(b"\0")
    (found,) = machine.files(tmp_path)
    assert found.status == "warning"
    assert "another sha256" in found.found
    assert [found.status for found in machine.files(tmp_path / "nowhere")] == ["note"]


@pytest.mark.parametrize(
    ("said", "in_the_fix"),
    [
        ("killed by SIGILL", "another runtime"),
        ("version `GLIBC_2.38' not found (required by x.so)", "upgrade the system"),
        ("x.so: wrong ELF class: ELFCLASS64", "copy no venv"),
        ("libopenblas.so.0: cannot open shared object file", "apt-get install libopenblas0"),
        ("probe was killed by SIGKILL, as the system does when memory runs out", "swap"),
        ("Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'", "newer runtime"),
    ],
)
def test_what_is_said_elsewhere_is_known(said: str, in_the_fix: str) -> None:
    """The words of linkers and runtimes on machines that we have none of here."""
    found = explain(said)
    assert found is not None
    assert in_the_fix in found.fix


def test_every_failure_is_documented() -> None:
    texts = [path.read_text() for path in (ROOT / "lenet_edge" / "doctor").glob("*.py")]
    named = re.findall(r'"(https://[^"]+|README\.md, [^"]+|lenet-edge \w+ --help|[\w-]+\(\d\))"',
                       "".join(texts))  # fmt: skip
    assert len(named) >= 10
    for known in FAILURES:
        assert known.see
    for place in named:
        if place.startswith("README.md, "):
            assert f"\n## {place.removeprefix('README.md, ')}\n" in README
        if place.startswith("lenet-edge "):
            assert place.split()[1] in COMMANDS
