"""Checks of the machine: clock, throttling, load, memory, disk, accelerators, exported files."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from lenet_edge.doctor.finding import Finding
from lenet_edge.errors import LenetEdgeError
from lenet_edge.extras import host_command
from lenet_edge.machine.conditions import read_system_file, throttling_remedy
from lenet_edge.machine.environment import Environment

_ROOT = Path("/")
_GIB = 2**30
# The measured minimum of each job: a training with its export, and one inference.
_NEEDED_MEMORY = {"host": 2 * _GIB, "board": _GIB // 8}
_NEEDED_DISK = {"host": _GIB, "board": _GIB // 20}
_HOT_CELSIUS = 80.0  # a Raspberry Pi reduces its clock from here
_BENCH_HELP = "lenet-edge bench --help"
_PI = "https://www.raspberrypi.com/documentation/computers/os.html"
_CPUFREQ = "https://docs.kernel.org/admin-guide/pm/cpufreq.html"
# Device files of accelerators: the kind of accelerator, and the group that usually has access.
_DEVICES = {
    "dev/dri/renderD*": ("GPU", "render"),
    "dev/accel/accel*": ("NPU", "render"),
    "dev/apex_*": ("Coral Edge TPU", "apex"),
    "dev/mali*": ("Mali GPU", "video"),
    "dev/ethosu*": ("Ethos-U NPU", "video"),
    "dev/rknpu*": ("Rockchip NPU", "video"),
}


def check_speed(environment: Environment, throttled: tuple[str, ...]) -> Iterator[Finding]:
    """Check for conditions that make latencies vary: emulation, governor, throttling, load."""
    if environment.emulated:
        yield Finding("processor", "warning", environment.cpu, environment.emulated,
                      "measure on the real machine", _BENCH_HELP)  # fmt: skip
    else:
        yield Finding("processor", "ok", f"{environment.cpu}, {environment.cores} cores")
    governor = environment.governor
    if governor in (None, "performance"):
        yield Finding("governor", "ok", governor or "not reported by the system")
    else:
        yield Finding(
            "governor", "warning", governor or "", "the clock follows the load with a delay",
            "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
            _CPUFREQ,
        )  # fmt: skip
    if throttled:
        is_power = any("voltage" in cause for cause in throttled)
        yield Finding(
            "throttling", "warning", ", ".join(throttled),
            "the power supply is too weak" if is_power else "the board was too hot",
            throttling_remedy(throttled), _PI,
        )  # fmt: skip
    elif (celsius := environment.temperature_celsius) is not None and celsius >= _HOT_CELSIUS:
        yield Finding("throttling", "warning", f"{celsius:.0f} °C",
                      "the clock will soon be reduced",
                      "cool the board with a heat sink or a fan", _PI)  # fmt: skip
    else:
        detail = f", {celsius:.0f} °C" if celsius else ""
        yield Finding("throttling", "ok", f"not reported{detail}")
    if environment.load is not None and environment.load > 0.5 * environment.cores:
        yield Finding("load", "warning", f"{environment.load:.1f} on {environment.cores} cores",
                      "other programs run, which increases every latency",
                      "find them with: top", _BENCH_HELP)  # fmt: skip
    else:
        yield Finding("load", "ok", "low" if environment.load is not None else "not reported")


def check_memory_and_folder(job: str, folder: Path, root: Path = _ROOT) -> Iterator[Finding]:
    """Check the available memory, the free disk space and the permissions of `folder`."""
    available = _available_bytes(root)
    if available is None:
        yield Finding("memory", "ok", "not reported")
    elif available < _NEEDED_MEMORY[job]:
        yield Finding(
            "memory", "warning", f"{available / _GIB:.2f} GiB available",
            f"the job of a {job} needs about {_NEEDED_MEMORY[job] / _GIB:g} GiB",
            "stop other programs, raise the limit of the container, or add swap, see mkswap(8)",
            "https://docs.kernel.org/admin-guide/mm/concepts.html",
        )  # fmt: skip
    else:
        yield Finding("memory", "ok", f"{available / _GIB:.1f} GiB available")
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        yield Finding("folder", "warning", f"{folder.absolute()} is not writable",
                      "it belongs to another user, or its file system is read-only",
                      "work in a folder of your own; see: ls -ld, mount", "chmod(1)")  # fmt: skip
    elif free < _NEEDED_DISK[job]:
        yield Finding("folder", "warning", f"{free / _GIB:.2f} GiB free",
                      f"the job of a {job} may write {_NEEDED_DISK[job] / _GIB:g} GiB",
                      "free some space: df -h, apt-get clean", "df(1)")  # fmt: skip
    else:
        yield Finding("folder", "ok", f"writable, {free / _GIB:.0f} GiB free")


def _available_bytes(root: Path) -> int | None:
    """Return the memory left for this process: that of the machine or of its container."""
    match = re.search(r"MemAvailable:\s*(\d+) kB", read_system_file(root / "proc/meminfo") or "")
    limits = [int(match.group(1)) * 1024] if match else []
    limit = read_system_file(root / "sys/fs/cgroup/memory.max")
    used = read_system_file(root / "sys/fs/cgroup/memory.current")
    if limit and used and limit.isdigit() and used.isdigit():
        limits.append(int(limit) - int(used))
    return min(limits, default=None)


def check_devices(root: Path = _ROOT) -> Iterator[Finding]:
    """Check that this user can open each accelerator."""
    has_device = False
    for pattern, (kind, group) in _DEVICES.items():
        for device in sorted(root.glob(pattern)):
            has_device = True
            if os.access(device, os.R_OK | os.W_OK, effective_ids=True):
                yield Finding(kind, "ok", f"/{device.relative_to(root)}")
            else:
                yield Finding(
                    kind, "warning", f"no permission to open /{device.relative_to(root)}",
                    f"this user is not in the group that has access, usually {group}",
                    f"sudo usermod -aG {group} $USER, then log in again", "usermod(8)",
                )  # fmt: skip
    if not has_device:
        yield Finding("accelerators", "ok", "none on this machine: models run on the CPU")


def check_exported_files(folder: Path) -> Iterator[Finding]:
    """Check that each exported file has the SHA-256 of its manifest."""
    from lenet_edge.artifacts.artifact import has_manifest, load_artifact
    from lenet_edge.formats import format_of

    paths = sorted(
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if format_of(path) and has_manifest(path)
    )
    if not paths:
        yield Finding("files", "note", f"none in {folder}", "no model was exported to this folder",
                      host_command("lenet-edge export"),
                      "lenet-edge export --help")  # fmt: skip
        return
    for path in paths:
        try:
            load_artifact(path)
        except LenetEdgeError as error:
            yield Finding("files", "warning", str(error), "the file was changed or partly copied",
                          "export it again, or copy it again with its .json",
                          "lenet-edge export --help")  # fmt: skip
            return
    yield Finding("files", "ok", f"{len(paths)} in {folder}, each with a matching manifest")
