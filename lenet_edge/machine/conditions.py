"""The conditions of the machine at one moment: clock, temperature, load and throttling.

They explain why the same call is fast at one time and slow at another.
"""

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
    """The conditions of the machine at one moment; None where the system does not report a value.

    Attributes:
        frequency_mhz: clock of the first core.
        temperature_celsius: temperature of the hottest thermal zone.
        load: mean number of runnable processes in the last minute.
        throttled: causes for which the firmware reduces the clock.
        throttle_events: number of times that x86 cores were throttled since the machine started.
        stolen_s: CPU seconds that the hypervisor gave to other guests since the machine started.
    """

    frequency_mhz: float | None = None
    temperature_celsius: float | None = None
    load: float | None = None
    throttled: tuple[str, ...] = ()
    throttle_events: int | None = None
    stolen_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "throttled", tuple(self.throttled))


def read_conditions(root: Path = _ROOT) -> Conditions:
    """Read the current conditions of the machine from the /sys and /proc under `root`."""
    return Conditions(
        frequency_mhz=frequency_mhz(root),
        temperature_celsius=_temperature(root),
        load=_load(root),
        throttled=parse_throttled(run_vcgencmd("get_throttled")),
        throttle_events=_throttle_events(root),
        stolen_s=_stolen_s(root),
    )


def frequency_mhz(root: Path = _ROOT) -> float | None:
    """Return the clock of the first core in MHz, or None if the system does not report it."""
    kilohertz = read_system_file(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    if kilohertz:
        return int(kilohertz) / 1e3
    cpuinfo = read_system_file(root / "proc/cpuinfo") or ""
    match = re.search(r"^cpu MHz\s*: ([\d.]+)", cpuinfo, re.MULTILINE)
    return float(match.group(1)) if match else None


def _temperature(root: Path) -> float | None:
    zones = [read_system_file(path) for path in root.glob("sys/class/thermal/thermal_zone*/temp")]
    return max((int(value) / 1e3 for value in zones if value), default=None)


def _load(root: Path) -> float | None:
    text = read_system_file(root / "proc/loadavg")
    return float(text.split()[0]) if text else None


def _throttle_events(root: Path) -> int | None:
    pattern = "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"
    counts = [read_system_file(path) for path in root.glob(pattern)]
    return sum(int(value) for value in counts if value) if counts else None


def _stolen_s(root: Path) -> float | None:
    text = read_system_file(root / "proc/stat")
    if not text:
        return None
    # user nice system idle iowait irq softirq steal ..., in clock ticks; source: proc(5)
    fields = text.split("\n", 1)[0].split()[1:]
    return int(fields[7]) / os.sysconf("SC_CLK_TCK") if len(fields) > 7 else None


def parse_throttled(output: str | None) -> tuple[str, ...]:
    """Decode the output of ``vcgencmd get_throttled``, such as ``throttled=0x50005``.

    Args:
        output: the line that the command printed; None if the machine is not a Raspberry Pi.

    Returns:
        A description of each bit that is set.
    """
    match = re.search(r"throttled=(0x[0-9a-fA-F]+)", output or "")
    bits = int(match.group(1), 16) if match else 0
    return tuple(description for bit, description in _PI_BITS.items() if bits >> bit & 1)


def throttling_remedy(throttled: tuple[str, ...]) -> str:
    """Return the advice for a throttled board; `throttled` is that of `Conditions`."""
    if any("voltage" in cause for cause in throttled):
        return "use the board's own power supply and a short cable"
    return (
        "cool the board with a heat sink, a fan or more air; a restart clears the entries 'since"
        " boot'"
    )


def run_vcgencmd(*arguments: str) -> str | None:
    """Return the output of vcgencmd, which queries the firmware of a Raspberry Pi.

    Return None if the command is missing or fails.
    """
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        done = subprocess.run(
            [command, *arguments], capture_output=True, text=True, check=False, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def read_system_file(path: Path) -> str | None:
    """Return the text of a file in /sys or /proc, or None if it is missing or empty."""
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None
