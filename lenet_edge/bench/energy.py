"""Energy of an inference in joules, on machines with an energy meter.

Intel and AMD count the energy of a whole package (RAPL). A Raspberry Pi 5 measures the voltage and
the current of its rails (PMIC). Both meters include everything that runs at that time and the idle
power. Inference therefore runs alone, without clock reads, in a phase of its own.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lenet_edge.machine.conditions import read_system_file, run_vcgencmd

_PHASE_S = 0.5
_ZONES = "sys/class/powercap/intel-rapl:*"


class Meter(Protocol):
    """A meter of energy."""

    @property
    def covers(self) -> str:
        """The parts of the machine that the figure includes."""

    def joules_per_call(self, call: Callable[[], object]) -> float | None:
        """Return the energy of one call in joules; None if the meter failed."""


def find_meter(root: Path = Path("/")) -> Meter | None:
    """Return this machine's energy meter, or None; `root` contains /sys."""
    zones = tuple(
        zone
        for zone in sorted(root.glob(_ZONES))
        # A zone inside another one ("intel-rapl:0:0", the cores) is part of it. Only root may read.
        if zone.name.count(":") == 1
        and (read_system_file(zone / "name") or "").startswith("package")
        and read_system_file(zone / "energy_uj")
    )
    if zones:
        return Rapl(zones)
    if pmic_watts(run_vcgencmd("pmic_read_adc")) is not None:
        return Pmic()
    return None


@dataclass(frozen=True)
class Rapl:
    """Energy counters of the CPU packages; source: Linux, admin-guide/powercap."""

    zones: tuple[Path, ...]

    @property
    def covers(self) -> str:
        """The names of the packages."""
        return (
            f"RAPL {', '.join(read_system_file(zone / 'name') or zone.name for zone in self.zones)}"
        )

    def joules_per_call(self, call: Callable[[], object]) -> float | None:
        """Return the energy of half a second of calls, divided by their number."""
        before = self._microjoules()
        calls = _repeat(call)
        after = self._microjoules()
        if before is None or after is None:
            return None
        total = 0
        for zone, old, new in zip(self.zones, before, after, strict=True):
            wraps_at = int(read_system_file(zone / "max_energy_range_uj") or 0)
            total += new - old if new >= old else new - old + wraps_at
        return total / 1e6 / calls

    def _microjoules(self) -> list[int] | None:
        values = [read_system_file(zone / "energy_uj") for zone in self.zones]
        return None if None in values else [int(value) for value in values if value]


class Pmic:
    """Power of the rails of a Raspberry Pi 5, sampled by a thread during the calls."""

    covers = "all rails of the board's PMIC, without USB devices"

    def joules_per_call(self, call: Callable[[], object]) -> float | None:
        """Return the mean power times the duration of a call."""
        watts: list[float] = []
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                power = pmic_watts(run_vcgencmd("pmic_read_adc"))
                if power is not None:
                    watts.append(power)
                done.wait(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        calls = _repeat(call)
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
        return sum(watts) / len(watts) * seconds / calls if watts else None


def pmic_watts(output: str | None) -> float | None:
    """Return the power of all rails with a current and a voltage; None if there is no such rail.

    `output` is the output of ``vcgencmd pmic_read_adc``, with lines such as
    ``3V3_SYS_A current(1)=0.07026696A`` and ``3V3_SYS_V volt(9)=3.30840800V``.
    """
    values = dict(
        re.findall(r"^\s*(\w+_[AV]) \w+\(\d+\)=([\d.]+)[AV]$", output or "", re.MULTILINE)
    )
    powers = [
        float(amperes) * float(values[f"{name[:-1]}V"])
        for name, amperes in values.items()
        if name.endswith("_A") and f"{name[:-1]}V" in values
    ]
    return sum(powers) if powers else None


def _repeat(call: Callable[[], object]) -> int:
    """Repeat a call for half a second; return the number of calls."""
    calls, until = 0, time.perf_counter() + _PHASE_S
    while time.perf_counter() < until:
        call()
        calls += 1
    return calls
