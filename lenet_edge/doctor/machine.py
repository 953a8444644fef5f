"""The machine: what slows it down, what it lacks, and what its user may not open."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from lenet_edge.doctor.finding import Finding
from lenet_edge.errors import LenetEdgeError
from lenet_edge.machine.conditions import read, remedy
from lenet_edge.machine.environment import Environment

_ROOT = Path("/")
_GIB = 2**30
# What the job takes at the least, from measurements: a training with its export; one inference.
_NEEDED_MEMORY = {"host": 2 * _GIB, "board": _GIB // 8}
_NEEDED_DISK = {"host": _GIB, "board": _GIB // 20}
_HOT_CELSIUS = 80.0  # where a Raspberry Pi begins to slow down
_FIGURES = "lenet-edge bench --help"
_PI = "https://www.raspberrypi.com/documentation/computers/os.html"
_CPUFREQ = "https://docs.kernel.org/admin-guide/pm/cpufreq.html"
# Device files of accelerators, and the groups that usually may open them.
_DEVICES = {
    "dev/dri/renderD*": ("GPU", "render"),
    "dev/accel/accel*": ("NPU", "render"),
    "dev/apex_*": ("Coral Edge TPU", "apex"),
    "dev/mali*": ("Mali GPU", "video"),
    "dev/ethosu*": ("Ethos-U NPU", "video"),
    "dev/rknpu*": ("Rockchip NPU", "video"),
}


def speed(here: Environment, throttled: tuple[str, ...]) -> Iterator[Finding]:
    """Look at what makes the same call slower at one time than at another."""
    if here.emulated:
        yield Finding("processor", "warning", here.cpu, here.emulated,
                      "measure on the real machine", _FIGURES)  # fmt: skip
    else:
        yield Finding("processor", "ok", f"{here.cpu}, {here.cores} cores")
    if here.governor in (None, "performance"):
        yield Finding("governor", "ok", here.governor or "the system shows none")
    else:
        yield Finding(
            "governor", "warning", here.governor or "", "the clock follows the load, with a delay",
            "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
            _CPUFREQ,
        )  # fmt: skip
    if throttled:
        power = any("voltage" in one for one in throttled)
        yield Finding(
            "throttling", "warning", ", ".join(throttled),
            "the power supply is too weak" if power else "the board was too hot",
            remedy(throttled), _PI,
        )  # fmt: skip
    elif here.temperature_celsius is not None and here.temperature_celsius >= _HOT_CELSIUS:
        yield Finding("throttling", "warning", f"{here.temperature_celsius:.0f} °C",
                      "it is about to slow down", "cool it: a heat sink, a fan", _PI)  # fmt: skip
    else:
        heat = here.temperature_celsius
        yield Finding("throttling", "ok", "none seen" + (f", {heat:.0f} °C" if heat else ""))
    if here.load is not None and here.load > 0.5 * here.cores:
        yield Finding("load", "warning", f"{here.load:.1f} on {here.cores} cores",
                      "other programs run, and every latency is longer",
                      "find them with: top", _FIGURES)  # fmt: skip
    else:
        yield Finding("load", "ok", "idle enough" if here.load is not None else "not told")


def room(job: str, folder: Path, root: Path = _ROOT) -> Iterator[Finding]:
    """Look at memory and disk, and whether results can be written to `folder`."""
    available = _available_bytes(root)
    if available is None:
        yield Finding("memory", "ok", "not told")
    elif available < _NEEDED_MEMORY[job]:
        yield Finding(
            "memory", "warning", f"{available / _GIB:.2f} GiB available",
            f"the job of a {job} takes about {_NEEDED_MEMORY[job] / _GIB:g} GiB",
            "stop other programs, raise the container's limit, or add swap, see mkswap(8)",
            "https://docs.kernel.org/admin-guide/mm/concepts.html",
        )  # fmt: skip
    else:
        yield Finding("memory", "ok", f"{available / _GIB:.1f} GiB available")
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        yield Finding("folder", "warning", f"{folder.absolute()} cannot be written to",
                      "it belongs to another user, or its file system is read-only",
                      "work in a folder of your own; see: ls -ld, mount", "chmod(1)")  # fmt: skip
    elif free < _NEEDED_DISK[job]:
        yield Finding("folder", "warning", f"{free / _GIB:.2f} GiB free",
                      f"the job of a {job} may write {_NEEDED_DISK[job] / _GIB:g} GiB",
                      "make room: df -h, apt-get clean", "df(1)")  # fmt: skip
    else:
        yield Finding("folder", "ok", f"can be written to, {free / _GIB:.0f} GiB free")


def _available_bytes(root: Path) -> int | None:
    """Return what this process may still take: the machine's memory, or its container's rest."""
    found = re.search(r"MemAvailable:\s*(\d+) kB", read(root / "proc/meminfo") or "")
    limits = [int(found.group(1)) * 1024] if found else []
    limit = read(root / "sys/fs/cgroup/memory.max")
    used = read(root / "sys/fs/cgroup/memory.current")
    if limit and used and limit.isdigit() and used.isdigit():
        limits.append(int(limit) - int(used))
    return min(limits, default=None)


def devices(root: Path = _ROOT) -> Iterator[Finding]:
    """Look for accelerators, and whether this user may open them."""
    seen = False
    for pattern, (what, group) in _DEVICES.items():
        for device in sorted(root.glob(pattern)):
            seen = True
            if os.access(device, os.R_OK | os.W_OK, effective_ids=True):
                yield Finding(what, "ok", f"/{device.relative_to(root)}")
            else:
                yield Finding(
                    what, "warning", f"/{device.relative_to(root)} may not be opened",
                    f"this user is not in the group that may, usually {group}",
                    f"sudo usermod -aG {group} $USER, then log in again", "usermod(8)",
                )  # fmt: skip
    if not seen:
        yield Finding("accelerators", "ok", "none on this machine: the processor does the work")


def files(folder: Path) -> Iterator[Finding]:
    """Look whether the exported files are those that their manifests describe."""
    from lenet_edge.artifacts.artifact import FORMATS, has_manifest, load_artifact

    names = sorted(
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.suffix in FORMATS and has_manifest(path)
    )
    if not names:
        yield Finding("files", "note", f"none in {folder}", "nothing was exported here",
                      "lenet-edge export, or copy the folder from where it was done",
                      "lenet-edge export --help")  # fmt: skip
        return
    for path in names:
        try:
            load_artifact(path)
        except LenetEdgeError as error:
            yield Finding("files", "warning", str(error), "it was changed, or copied in part",
                          "export it again, or copy it again with its .json",
                          "lenet-edge export --help")  # fmt: skip
            return
    yield Finding("files", "ok", f"{len(names)} in {folder}, each as its manifest says")
