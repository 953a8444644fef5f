"""How the machine is doing at one moment: what makes the same call fast now and slow later."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# `vcgencmd get_throttled`; source: Raspberry Pi documentation, "vcgencmd", get_throttled.
_PI_BITS = {
    0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit",
    16: "under-voltage since boot", 17: "frequency capped since boot", 18: "throttled since boot",
    19: "soft temperature limit since boot",
}  # fmt: skip
_ROOT = Path("/")


@dataclass(frozen=True)
class Conditions:
    """What can be read of the machine's state; what it does not tell is None.

    `frequency_mhz` is of the first core, `temperature_celsius` the hottest zone, `load` the mean
    number of runnable processes in the last minute. `throttled` names what holds the machine
    back. `throttle_events` counts how often an x86 core was, `stolen_s` the CPU seconds that a
    hypervisor gave to others: both since the machine started.
    """

    frequency_mhz: float | None = None
    temperature_celsius: float | None = None
    load: float | None = None
    throttled: tuple[str, ...] = ()
    throttle_events: int | None = None
    stolen_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "throttled", tuple(self.throttled))


def observe(root: Path = _ROOT) -> Conditions:
    """Read the machine's state now; `root` is where /sys and /proc lie."""
    return Conditions(
        frequency_mhz=frequency_mhz(root),
        temperature_celsius=_temperature(root),
        load=_load(root),
        throttled=pi_throttled(ask_vcgencmd("get_throttled")),
        throttle_events=_throttle_events(root),
        stolen_s=_stolen_s(root),
    )


def frequency_mhz(root: Path = _ROOT) -> float | None:
    """Return the clock of the first core, in MHz."""
    kilohertz = read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    if kilohertz:
        return int(kilohertz) / 1e3
    found = re.search(r"^cpu MHz\s*: ([\d.]+)", read(root / "proc/cpuinfo") or "", re.MULTILINE)
    return float(found.group(1)) if found else None


def _temperature(root: Path) -> float | None:
    zones = [read(path) for path in root.glob("sys/class/thermal/thermal_zone*/temp")]
    return max((int(value) / 1e3 for value in zones if value), default=None)


def _load(root: Path) -> float | None:
    text = read(root / "proc/loadavg")
    return float(text.split()[0]) if text else None


def _throttle_events(root: Path) -> int | None:
    pattern = "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"
    counts = [read(path) for path in root.glob(pattern)]
    return sum(int(value) for value in counts if value) if counts else None


def _stolen_s(root: Path) -> float | None:
    text = read(root / "proc/stat")
    if not text:
        return None
    # user nice system idle iowait irq softirq steal ..., in clock ticks; source: proc(5)
    fields = text.split("\n", 1)[0].split()[1:]
    return int(fields[7]) / os.sysconf("SC_CLK_TCK") if len(fields) > 7 else None


def pi_throttled(answer: str | None) -> tuple[str, ...]:
    """Return in words what ``throttled=0x50005`` means; nothing for 0x0 and off a Pi."""
    found = re.search(r"throttled=(0x[0-9a-fA-F]+)", answer or "")
    bits = int(found.group(1), 16) if found else 0
    return tuple(words for bit, words in _PI_BITS.items() if bits >> bit & 1)


def remedy(throttled: tuple[str, ...]) -> str:
    """Return what to do about a board that is held back."""
    if any("voltage" in one for one in throttled):
        return "take the board's own power supply and a short cable"
    return "cool it: a heat sink, a fan, more air; what is said since boot ends with a restart"


def ask_vcgencmd(*question: str) -> str | None:
    """Return what a Raspberry Pi's firmware answers; None off a Pi."""
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        done = subprocess.run(
            [command, *question], capture_output=True, text=True, check=False, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def read(path: Path) -> str | None:
    """Return the text of a file of /sys or /proc; None where it is missing or empty."""
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None
