"""Energy meters, from files and outputs of real machines; this machine may have no meter."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lenet_edge.bench.energy import Rapl, find_meter, pmic_watts

# Part of the output of a Raspberry Pi 5.
PMIC = """\
   3V7_WL_SW_A current(0)=0.09759550A
   3V3_SYS_A current(1)=0.07026870A
     VDD_CORE_A current(7)=1.49380000A
   3V7_WL_SW_V volt(8)=3.72305800V
     3V3_SYS_V volt(9)=3.30839300V
    VDD_CORE_V volt(15)=0.72033860V
   EXT5V_V volt(24)=5.15246000V
"""


def zone(root: Path, name: str, label: str, microjoules: int) -> Path:
    path = root / "sys/class/powercap" / name
    path.mkdir(parents=True)
    (path / "name").write_text(f"{label}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text("262143328850\n")
    return path


def test_zones_inside_a_package_are_not_counted_twice(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 5)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)
    zone(tmp_path, "intel-rapl:1", "psys", 5)
    second = zone(tmp_path, "intel-rapl:2", "package-1", 5)
    meter = find_meter(tmp_path)
    assert isinstance(meter, Rapl)
    assert meter.zones == (package, second)
    assert meter.covers == "RAPL package-0, package-1"


@pytest.mark.parametrize(("start", "end"), [(1_000_000, 3_000_000), (262142328850, 1_000_000)])
def test_a_counter_that_wraps_around(tmp_path: Path, start: int, end: int) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", start)
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.001)
        (package / "energy_uj").write_text(f"{end}\n")

    joules = Rapl((package,)).joules_per_call(call)
    assert joules == pytest.approx(2 / calls)


def test_a_machine_without_a_meter(tmp_path: Path) -> None:
    assert find_meter(tmp_path) is None
    unreadable = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (unreadable / "energy_uj").unlink()
    assert find_meter(tmp_path) is None


def test_the_power_of_a_pi_5_is_the_sum_of_its_rails() -> None:
    expected = 0.0975955 * 3.723058 + 0.0702687 * 3.308393 + 1.4938 * 0.7203386
    assert pmic_watts(PMIC) == pytest.approx(expected)
    assert pmic_watts("Command not registered") is None
    assert pmic_watts(None) is None
