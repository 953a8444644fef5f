"""The description of the machine, stored with each measurement taken on it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lenet_edge.machine.conditions import frequency_mhz, read_conditions, read_system_file
from lenet_edge.support.portable import allowed_cores

_PACKAGES = (
    "lenet-edge", "numpy", "ai-edge-litert", "tflite-runtime", "onnxruntime", "openvino",
    "tensorflow", "keras", "onnx", "tf2onnx",
)  # fmt: skip
# Extras of lenet-edge without a runtime; the versions of their packages are not recorded.
_OTHER_EXTRAS = ("predict", "serve", "fleet", "host", "report", "test")
# The CPU features that determine the speed of matrix products, as /proc/cpuinfo names them.
_CPU_FEATURES = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8",
    "neon", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
)  # fmt: skip
_ROOT = Path("/")


@dataclass(frozen=True)
class Environment:
    """The facts about one machine; None or empty where the system does not report a fact.

    Attributes:
        cores: number of CPU cores that this process may use.
        affinity: the numbers of these cores.
        container: the container software that the system runs in.
        hypervisor: the hypervisor that the system runs in.
        emulated: evidence that the CPU is emulated. Latencies then say nothing about a real CPU.
    """

    machine: str
    cpu: str
    cpu_features: tuple[str, ...]
    cores: int
    memory_bytes: int | None
    architecture: str
    operating_system: str
    kernel: str
    python: str
    governor: str | None
    frequency_mhz: float | None
    temperature_celsius: float | None
    virtualized: bool | None
    packages: dict[str, str] = field(default_factory=dict)
    affinity: tuple[int, ...] = ()
    hypervisor: str | None = None
    container: str | None = None
    emulated: str | None = None
    load: float | None = None

    @property
    def identity(self) -> tuple[str, str, str, tuple[str, ...], int, bool]:
        """The facts that must be equal in two runs that are compared.

        A virtual machine may hide features of a processor, and has the name of the others.
        """
        return (
            self.machine, self.cpu, self.architecture, self.cpu_features, self.cores,
            self.emulated is not None,
        )  # fmt: skip

    @property
    def busy(self) -> bool:
        """True if other programs used more than half of the cores when the facts were read."""
        return self.load is not None and self.load > 0.5 * self.cores

    @property
    def warnings(self) -> tuple[str, ...]:
        """The reasons to doubt every measurement of this machine, one sentence each."""
        if not self.busy:
            return self.lasting_warnings
        load = f"other programs ran: load {self.load:.1f} on {self.cores} cores"
        return (*self.lasting_warnings, load)

    @property
    def lasting_warnings(self) -> tuple[str, ...]:
        """Those of the reasons that hold until the machine is set up in another way."""
        reasons = []
        if self.emulated:
            reasons.append(
                f"emulated ({self.emulated}): these figures say nothing about a real machine"
            )
        if self.governor not in (None, "performance"):
            reasons.append(
                f"the governor is {self.governor}: the clock may change during a measurement"
            )
        return tuple(reasons)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Environment:
        """Return the Environment that `facts`, read from JSON, describe."""
        tuples = {name: tuple(facts[name]) for name in ("cpu_features", "affinity")}
        return cls(**{**facts, **tuples})


def read_environment(root: Path = _ROOT) -> Environment:
    """Describe this machine from the /sys, /proc and /etc under `root`."""
    cpuinfo = read_system_file(root / "proc/cpuinfo") or ""
    flags = set((_field(cpuinfo, "flags") or _field(cpuinfo, "Features") or "").split())
    board = read_system_file(root / "sys/firmware/devicetree/base/model")
    cpu = _field(cpuinfo, "model name") or board or platform.processor() or platform.machine()
    conditions = read_conditions(root)
    affinity = allowed_cores()
    hypervisor = _hypervisor(root, flags)
    return Environment(
        machine=board or cpu,
        cpu=cpu,
        cpu_features=tuple(name for name in _CPU_FEATURES if name in flags),
        cores=len(affinity),
        memory_bytes=_memory_bytes(root),
        architecture=platform.machine(),
        operating_system=_operating_system(root),
        kernel=platform.release(),
        python=platform.python_version(),
        governor=read_system_file(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        frequency_mhz=frequency_mhz(root),
        temperature_celsius=conditions.temperature_celsius,
        virtualized=hypervisor is not None if flags else None,
        packages=_packages(),
        affinity=affinity,
        hypervisor=hypervisor,
        container=_container(root),
        emulated=detect_emulation(root, platform.machine(), cpuinfo),
        load=conditions.load,
    )


def _field(text: str, name: str) -> str | None:
    match = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else None


def _hypervisor(root: Path, flags: set[str]) -> str | None:
    named = read_system_file(root / "sys/hypervisor/type")
    if named:
        return named
    tree = read_system_file(root / "sys/firmware/devicetree/base/hypervisor/compatible")
    if tree:
        return tree.split("\0")[0]
    if "hypervisor" in flags:
        return read_system_file(root / "sys/class/dmi/id/sys_vendor") or "unnamed"
    return None


def _container(root: Path) -> str | None:
    if (root / ".dockerenv").exists():
        return "docker"
    podman = read_system_file(root / "run/.containerenv")
    if podman is not None or (root / "run/.containerenv").exists():
        return "podman"
    groups = read_system_file(root / "proc/1/cgroup") or ""
    match = re.search(r"docker|kubepods|lxc|containerd", groups)
    return match.group() if match else None


def detect_emulation(root: Path, architecture: str, cpuinfo: str) -> str | None:
    """Return the evidence that the CPU is emulated, or None if there is none.

    Args:
        root: the folder that contains /proc.
        architecture: the machine name from uname, such as "aarch64".
        cpuinfo: the text of /proc/cpuinfo; older QEMU versions show that of the host.
    """
    model = _field(cpuinfo, "model name") or ""
    if re.search(r"QEMU (TCG|Virtual)|VirtualApple", model):
        return f"the CPU is a {model}"
    is_arm, is_x86 = architecture.startswith(("arm", "aarch64")), architecture == "x86_64"
    if (is_arm and re.search(r"^vendor_id\s*:", cpuinfo, re.MULTILINE)) or (
        is_x86 and re.search(r"^CPU implementer\s*:", cpuinfo, re.MULTILINE)
    ):
        return f"uname says {architecture}, /proc/cpuinfo another"
    # QEMU user mode fakes /proc/self/exe but not /proc/thread-self/exe, which is the same link.
    with contextlib.suppress(OSError):
        program = (root / "proc/thread-self/exe").readlink().name
        if "qemu" in program:
            return f"programs for {architecture} run in {program}"
    return None


def _memory_bytes(root: Path) -> int | None:
    meminfo = read_system_file(root / "proc/meminfo") or ""
    match = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def _operating_system(root: Path) -> str:
    text = read_system_file(root / "etc/os-release") or ""
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', text, re.MULTILINE)
    return match.group(1) if match else sys.platform


def _recorded_packages() -> list[str]:
    """Return `_PACKAGES` and the packages of every extra with a runtime in pyproject.toml.

    So a new runtime is recorded without a change here. A bundle has no metadata, only `_PACKAGES`.
    """
    names = list(_PACKAGES)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for line in importlib.metadata.requires("lenet-edge") or ():
            requirement, _, marker = line.partition(";")
            name = re.match(r"[\w.-]+", requirement)
            extra = re.search(r"extra == [\"'](\S+)[\"']", marker)
            if name and extra and extra[1] not in _OTHER_EXTRAS:
                names.append(name[0])
    return list(dict.fromkeys(names))


def _packages() -> dict[str, str]:
    versions = {}
    for name in _recorded_packages():
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
