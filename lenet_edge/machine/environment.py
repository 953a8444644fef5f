"""What the machine is, so that a figure can be read next to where it was measured."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lenet_edge.machine.conditions import frequency_mhz, observe, read

_PACKAGES = (
    "lenet-edge", "numpy", "ai-edge-litert", "tflite-runtime", "onnxruntime", "openvino",
    "tensorflow", "keras", "onnx", "tf2onnx",
)  # fmt: skip
# What decides how fast a quantized or float matrix product can be, in /proc/cpuinfo's names.
_CPU_FEATURES = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8",
    "neon", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
)  # fmt: skip
_ROOT = Path("/")


@dataclass(frozen=True)
class Environment:
    """The facts of one machine. A fact that the machine does not tell is None or empty.

    `cores` are those this process may use, `affinity` their numbers. `container` and `hypervisor`
    name what the system runs in, and `emulated` says how it is known that another CPU is being
    imitated: then no figure says anything of the real one.
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
    def identity(self) -> tuple[str, str, str, int, bool]:
        """What two runs must share to be compared: machine, CPU, architecture, cores, emulation."""
        return self.machine, self.cpu, self.architecture, self.cores, self.emulated is not None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes every figure of this machine doubtful, in words."""
        said = []
        if self.emulated:
            said.append(f"emulated ({self.emulated}): these figures say nothing of a real machine")
        if self.governor not in (None, "performance"):
            said.append(f"the governor is {self.governor}: the clock may change while measuring")
        if self.load is not None and self.load > 0.5 * self.cores:
            said.append(f"other work ran here: load {self.load:.1f} on {self.cores} cores")
        return tuple(said)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Environment:
        """Return the Environment that a JSON file holds."""
        tuples = {name: tuple(facts[name]) for name in ("cpu_features", "affinity")}
        return cls(**{**facts, **tuples})


def capture(root: Path = _ROOT) -> Environment:
    """Read the facts of this machine, now; `root` is where /sys, /proc and /etc lie."""
    cpuinfo = read(root / "proc/cpuinfo") or ""
    flags = set((_field(cpuinfo, "flags") or _field(cpuinfo, "Features") or "").split())
    board = read(root / "sys/firmware/devicetree/base/model")
    cpu = _field(cpuinfo, "model name") or board or platform.processor() or platform.machine()
    now = observe(root)
    affinity = tuple(sorted(os.sched_getaffinity(0)))
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
        governor=read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        frequency_mhz=frequency_mhz(root),
        temperature_celsius=now.temperature_celsius,
        virtualized=hypervisor is not None if flags else None,
        packages=_packages(),
        affinity=affinity,
        hypervisor=hypervisor,
        container=_container(root),
        emulated=emulated_by(root, platform.machine(), cpuinfo),
        load=now.load,
    )


def _field(text: str, name: str) -> str | None:
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else None


def _hypervisor(root: Path, flags: set[str]) -> str | None:
    named = read(root / "sys/hypervisor/type")
    if named:
        return named
    tree = read(root / "sys/firmware/devicetree/base/hypervisor/compatible")
    if tree:
        return tree.split("\0")[0]
    if "hypervisor" in flags:
        return read(root / "sys/class/dmi/id/sys_vendor") or "unnamed"
    return None


def _container(root: Path) -> str | None:
    if (root / ".dockerenv").exists():
        return "docker"
    podman = read(root / "run/.containerenv")
    if podman is not None or (root / "run/.containerenv").exists():
        return "podman"
    groups = read(root / "proc/1/cgroup") or ""
    found = re.search(r"docker|kubepods|lxc|containerd", groups)
    return found.group() if found else None


def emulated_by(root: Path, architecture: str, cpuinfo: str) -> str | None:
    """Return how it is known that another CPU is being imitated, or None.

    Args:
        root: where /proc lies.
        architecture: what uname says, such as "aarch64".
        cpuinfo: the text of /proc/cpuinfo, which older QEMU passes on from the host.
    """
    model = _field(cpuinfo, "model name") or ""
    if re.search(r"QEMU (TCG|Virtual)|VirtualApple", model):
        return f"the CPU is a {model}"
    is_arm, is_x86 = architecture.startswith(("arm", "aarch64")), architecture == "x86_64"
    if (is_arm and re.search(r"^vendor_id\s*:", cpuinfo, re.MULTILINE)) or (
        is_x86 and re.search(r"^CPU implementer\s*:", cpuinfo, re.MULTILINE)
    ):
        return f"uname says {architecture}, /proc/cpuinfo another"
    # QEMU's user mode answers for /proc/self/exe itself, but not for this name of the same link.
    with contextlib.suppress(OSError):
        runs = (root / "proc/thread-self/exe").readlink().name
        if "qemu" in runs:
            return f"programs for {architecture} run in {runs}"
    return None


def _memory_bytes(root: Path) -> int | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", read(root / "proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def _operating_system(root: Path) -> str:
    text = read(root / "etc/os-release") or ""
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', text, re.MULTILINE)
    return found.group(1) if found else sys.platform


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
