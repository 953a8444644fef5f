"""Tests of `doctor` on machines with real faults: each fault is reported with cause and fix."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lenet_edge.doctor import machine
from lenet_edge.doctor.failures import KNOWN_FAILURES, find_failure
from lenet_edge.machine.environment import read_environment
from tests import needs
from tests.bare_venv import BARE, ROOT, BareVenv
from tests.conftest import LenetEdge
from tests.machine.system_tree import write_tree
from tests.test_import_rules import COMMANDS

README = (ROOT / "README.md").read_text()


@pytest.fixture
def venv(tmp_path: Path) -> BareVenv:
    return BareVenv(tmp_path / "venv")


@pytest.mark.costly
def test_host_without_faults(lenet_edge: LenetEdge, tmp_path: Path) -> None:
    done = lenet_edge("doctor", "--json", "report.json", "--job", "host")
    assert done.returncode == 0, done.stdout
    assert "This machine can do its job as a host: train and export." in done.stdout
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 80
    findings = json.loads((tmp_path / "report.json").read_text())["findings"]
    assert ("tensorflow-function", "ok") in {(each["check"], each["status"]) for each in findings}


@pytest.mark.costly
@needs.tflite_runtime
def test_board_without_faults(venv: BareVenv) -> None:
    venv.add(*BARE, "tflite_runtime")
    status, findings = venv.run_doctor()
    assert status == 0
    assert findings["tflite-runtime-cpu"]["status"] == "ok"
    assert findings["litert-xnnpack"]["status"] == "note"
    assert findings["litert-xnnpack"]["fix"] == "pip install ai-edge-litert"
    assert findings["pillow"]["cause"] == "predict and serve cannot be used without it"
    status, findings = venv.run_doctor("--job", "host")
    assert status == 3
    assert findings["tensorflow"]["status"] == "failure"


def test_missing_runtime(venv: BareVenv) -> None:
    venv.add(*BARE)
    status, findings = venv.run_doctor()
    assert status == 3
    assert findings["runtimes"]["status"] == "failure"
    assert "pip install ai-edge-litert" in findings["runtimes"]["fix"]


@needs.tflite_runtime
def test_missing_numpy(venv: BareVenv) -> None:
    venv.add(*(name for name in BARE if not name.startswith("numpy")), "tflite_runtime")
    status, findings = venv.run_doctor()
    assert status == 3
    assert findings["NumPy"]["status"] == "failure"
    assert findings["NumPy"]["cause"] == "the package numpy is missing or only partly installed"


def patch_libraries(package: Path, offset: int, value: bytes) -> None:
    for library in package.rglob("*.so"):
        content = bytearray(library.read_bytes())
        content[offset : offset + len(value)] = value
        library.write_bytes(content)


@needs.tflite_runtime
def test_runtime_for_another_architecture(venv: BareVenv) -> None:
    """The venv was copied from another machine, whose processor the ELF headers name."""
    venv.add(*BARE)
    venv.add("tflite_runtime", copy=True)
    patch_libraries(venv.packages / "tflite_runtime", 18, (40).to_bytes(2, "little"))
    status, findings = venv.run_doctor()
    assert status == 3
    finding = findings["tflite-runtime-cpu"]
    assert finding["status"] == "warning"
    assert "is for another architecture, arm instead of" in finding["found"]
    assert finding["cause"].startswith("the library is for another processor")


@needs.tflite_runtime
def test_missing_system_library(venv: BareVenv) -> None:
    """The runtime is linked to a library that no system has."""
    venv.add(*BARE)
    venv.add("tflite_runtime", copy=True)
    for library in (venv.packages / "tflite_runtime").rglob("*.so"):
        content = library.read_bytes()
        assert b"libpthread.so.0" in content
        library.write_bytes(content.replace(b"libpthread.so.0", b"libnowhere.so.0"))
    _, findings = venv.run_doctor()
    finding = findings["tflite-runtime-cpu"]
    assert "libnowhere.so.0" in finding["cause"]
    assert "apt-file search libnowhere.so.0" in finding["fix"]


@needs.tflite_runtime
def test_partly_installed_runtime(venv: BareVenv) -> None:
    venv.add(*BARE)
    venv.add("tflite_runtime", copy=True)
    (venv.packages / "tflite_runtime" / "interpreter.py").unlink()
    _, findings = venv.run_doctor()
    cause = findings["tflite-runtime-cpu"]["cause"]
    assert cause.startswith("the package tflite_runtime")
    assert cause.endswith("is missing or only partly installed")


@pytest.mark.slow
@needs.tflite_runtime
def test_numpy_2_with_tflite_runtime(venv: BareVenv) -> None:
    venv.add(*(name for name in BARE if not name.startswith("numpy")), "tflite_runtime")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", venv.packages]
    subprocess.run([*map(str, install), "numpy>=2"], check=True, timeout=300)
    status, findings = venv.run_doctor()
    assert status == 3
    finding = findings["tflite-runtime-cpu"]
    assert finding["cause"].startswith("tflite-runtime was built for NumPy 1")
    assert finding["fix"].startswith("pip install 'numpy<2'")


def select(findings: Iterator[Any], check: str) -> Any:
    (finding,) = (finding for finding in findings if finding.check == check)
    return finding


def test_powersave_governor(tmp_path: Path) -> None:
    root = write_tree(
        tmp_path, sys__devices__system__cpu__cpu0__cpufreq__scaling_governor="powersave\n"
    )
    finding = select(machine.check_speed(read_environment(root), ()), "governor")
    assert (finding.status, finding.found) == ("warning", "powersave")
    assert "tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor" in finding.fix


def test_throttling_cause_is_power_or_heat(tmp_path: Path) -> None:
    environment = read_environment(tmp_path)
    power = select(machine.check_speed(environment, ("under-voltage", "throttled")), "throttling")
    heat = select(
        machine.check_speed(environment, ("soft temperature limit since boot",)), "throttling"
    )
    assert "power supply" in power.cause
    assert "too hot" in heat.cause
    root = write_tree(tmp_path, sys__class__thermal__thermal_zone0__temp="83000\n")
    assert select(machine.check_speed(read_environment(root), ()), "throttling").found == "83 °C"


def test_high_load(tmp_path: Path) -> None:
    root = write_tree(tmp_path, proc__loadavg="99.00 1.00 0.50 2/200 999\n")
    assert select(machine.check_speed(read_environment(root), ()), "load").status == "warning"


def test_little_memory(tmp_path: Path) -> None:
    root = write_tree(tmp_path, proc__meminfo="MemTotal: 500000 kB\nMemAvailable: 1000000 kB\n")
    assert select(machine.check_memory_and_folder("board", tmp_path, root), "memory").status == "ok"
    assert (
        select(machine.check_memory_and_folder("host", tmp_path, root), "memory").status
        == "warning"
    )
    cgroup = root / "sys" / "fs" / "cgroup"
    cgroup.mkdir(parents=True)
    (cgroup / "memory.max").write_text("100000000\n")
    (cgroup / "memory.current").write_text("60000000\n")
    finding = select(machine.check_memory_and_folder("board", tmp_path, root), "memory")
    assert (finding.status, finding.found) == ("warning", "0.04 GiB available")


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Drop the privileges of root during the test."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_device_without_permission(tmp_path: Path, as_nobody: None) -> None:
    root = Path("/tmp") / f"lenet-edge-{os.getpid()}"  # other users cannot enter pytest's folder
    device = root / "dev" / "dri" / "renderD128"
    device.parent.mkdir(parents=True)
    try:
        device.touch()
        assert [finding.status for finding in machine.check_devices(root)] == ["ok"]
        device.chmod(0)
        (finding,) = machine.check_devices(root)
        assert finding.status == "warning"
        assert "usermod -aG render" in finding.fix
        root.chmod(0o500)
        assert select(machine.check_memory_and_folder("board", root), "folder").status == "warning"
    finally:
        root.chmod(0o700)
        shutil.rmtree(root)


def test_changed_exported_file(tmp_path: Path) -> None:
    for name in ("lenet_int8.tflite", "lenet_int8.tflite.json"):
        shutil.copy(ROOT / "exported" / name, tmp_path / name)
    assert [finding.status for finding in machine.check_exported_files(tmp_path)] == ["ok"]
    with (tmp_path / "lenet_int8.tflite").open("ab") as file:
        file.write(b"\0")
    (finding,) = machine.check_exported_files(tmp_path)
    assert finding.status == "warning"
    assert "the sha256 differs" in finding.found
    assert [finding.status for finding in machine.check_exported_files(tmp_path / "nowhere")] == [
        "note"
    ]


@pytest.mark.parametrize(
    ("message", "part_of_fix"),
    [
        ("killed by SIGILL", "another runtime"),
        ("version `GLIBC_2.38' not found (required by x.so)", "upgrade the system"),
        ("x.so: wrong ELF class: ELFCLASS64", "do not copy a venv"),
        ("libopenblas.so.0: cannot open shared object file", "apt-get install libopenblas0"),
        ("probe was killed by SIGKILL, as the system does when memory runs out", "swap"),
        ("Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'", "newer runtime"),
    ],
)
def test_messages_of_other_machines_are_recognized(message: str, part_of_fix: str) -> None:
    """The messages are those of linkers and runtimes on machines that CI does not have."""
    failure = find_failure(message)
    assert failure is not None
    assert part_of_fix in failure.fix


@pytest.mark.parametrize(
    ("module", "message", "part_of_cause"),
    [
        ("runtimes/tflite_runtime.py", "needs NumPy 1, and NumPy 2.1 is installed;", "NumPy 1"),
        ("runtimes/_probe.py", "but its results are wrong by up to 0.5", "wrong results"),
        ("worker.py", "probe did not finish within 60 s and was stopped", "hangs"),
        ("worker.py", "was killed by SIGKILL, as the system does when memory runs out", "memory"),
        ("worker.py", "needs more than the 0.5 GiB of memory available", "memory"),
    ],
)
def test_own_messages_are_recognized(module: str, message: str, part_of_cause: str) -> None:
    """Each message is that of the module, with values in it, so that both change together."""
    values = re.compile(r"\\?\{[^}]*\}|\d[\d.]*|probe")
    source = values.sub("*", (ROOT / "lenet_edge" / module).read_text())
    assert values.sub("*", message) in source
    failure = find_failure(message)
    assert failure is not None
    assert part_of_cause in failure.cause


def test_every_reference_exists() -> None:
    texts = [path.read_text() for path in (ROOT / "lenet_edge" / "doctor").glob("*.py")]
    pattern = r'"(https://[^"]+|README\.md, [^"]+|lenet-edge \w+ --help|[\w-]+\(\d\))"'
    references = re.findall(pattern, "".join(texts))
    assert len(references) >= 10
    for failure in KNOWN_FAILURES:
        assert failure.see
    for reference in references:
        if reference.startswith("README.md, "):
            assert f"\n## {reference.removeprefix('README.md, ')}\n" in README
        if reference.startswith("lenet-edge "):
            assert reference.split()[1] in COMMANDS
