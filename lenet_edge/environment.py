"""What the machine is, so that a figure can be read next to where it was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

_PACKAGES = (
    "lenet-edge", "numpy", "ai-edge-litert", "tflite-runtime", "onnxruntime", "openvino",
    "tensorflow", "keras", "onnx", "tf2onnx",
)  # fmt: skip
_CPU_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
)


@dataclass(frozen=True)
class Environment:
    """The facts of one machine. A fact that the machine does not tell is None or empty."""

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


def capture() -> Environment:
    """Read the facts of this machine, now."""
    cpuinfo = _read("/proc/cpuinfo") or ""
    flags = set((_field(cpuinfo, "flags") or _field(cpuinfo, "Features") or "").split())
    board = _read("/sys/firmware/devicetree/base/model")
    cpu = _field(cpuinfo, "model name") or board or platform.processor() or platform.machine()
    frequency = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    temperature = _read("/sys/class/thermal/thermal_zone0/temp")
    return Environment(
        machine=board or cpu,
        cpu=cpu,
        cpu_features=tuple(name for name in _CPU_FEATURES if name in flags),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=_memory_bytes(),
        architecture=platform.machine(),
        operating_system=_operating_system(),
        kernel=platform.release(),
        python=platform.python_version(),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        frequency_mhz=int(frequency) / 1e3 if frequency else _cpuinfo_mhz(cpuinfo),
        temperature_celsius=int(temperature) / 1e3 if temperature else None,
        virtualized="hypervisor" in flags if flags else None,
        packages=_packages(),
    )


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _field(text: str, name: str) -> str | None:
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else None


def _cpuinfo_mhz(cpuinfo: str) -> float | None:
    value = _field(cpuinfo, "cpu MHz")
    return float(value) if value else None


def _memory_bytes() -> int | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def _operating_system() -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read("/etc/os-release") or "", re.MULTILINE)
    return found.group(1) if found else sys.platform


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
