"""Tests of the conditions and the description of this machine and of imitated machines."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.machine.conditions import Conditions, parse_throttled, read_conditions
from lenet_edge.machine.environment import detect_emulation, read_environment
from lenet_edge.results.process_samples import ProcessSamples
from tests.machine.system_tree import write_tree
from tests.report.builders import measurement, process_samples


def test_conditions_of_this_machine() -> None:
    conditions = read_conditions()
    assert conditions.load is not None
    assert conditions.load >= 0
    assert conditions.stolen_s is not None
    assert conditions.stolen_s >= 0
    assert conditions.throttled == ()


def test_raspberry_pi(tmp_path: Path) -> None:
    cpu = "sys__devices__system__cpu__cpu0"
    root = write_tree(
        tmp_path,
        **{
            f"{cpu}__cpufreq__scaling_cur_freq": "1800000\n",
            f"{cpu}__cpufreq__scaling_governor": "ondemand\n",
            "sys__class__thermal__thermal_zone0__temp": "48312\n",
            "sys__class__thermal__thermal_zone1__temp": "61000\n",
            "sys__firmware__devicetree__base__model": "Raspberry Pi 4 Model B Rev 1.4\0",
            "proc__loadavg": "3.10 1.00 0.50 2/200 999\n",
            "proc__cpuinfo": "processor\t: 0\nFeatures\t: fp asimd crc32 asimddp\n"
            "CPU implementer\t: 0x41\n",
        },
    )
    conditions = read_conditions(root)
    assert (conditions.frequency_mhz, conditions.temperature_celsius) == (1800, 61)
    assert conditions.load == 3.1
    assert (conditions.stolen_s, conditions.throttle_events) == (None, None)
    environment = read_environment(root)
    assert environment.machine == "Raspberry Pi 4 Model B Rev 1.4"
    assert environment.cpu_features == ("asimd", "asimddp")
    assert (environment.hypervisor, environment.container) == (None, None)
    assert environment.virtualized is False
    warnings = " ".join(dataclasses.replace(environment, cores=4, emulated=None).warnings)
    assert "the governor is ondemand" in warnings
    assert "load 3.1 on 4 cores" in warnings


def test_x86_guest_in_a_container(tmp_path: Path) -> None:
    cpu = "sys__devices__system__cpu"
    root = write_tree(
        tmp_path,
        **{
            "proc__cpuinfo": "vendor_id\t: GenuineIntel\nmodel name\t: Xeon\ncpu MHz\t\t: 2600.5\n"
            "flags\t\t: fpu avx2 avx512_vnni hypervisor\n",
            "proc__stat": "cpu  100 0 50 800 5 0 3 250 0 0\ncpu0 1 2 3\n",
            "proc__1__cgroup": "0::/kubepods/burstable/pod1\n",
            "sys__class__dmi__id__sys_vendor": "QEMU\n",
            f"{cpu}__cpu0__thermal_throttle__core_throttle_count": "3\n",
            f"{cpu}__cpu1__thermal_throttle__core_throttle_count": "4\n",
        },
    )
    conditions = read_conditions(root)
    assert conditions.frequency_mhz == 2600.5
    assert conditions.throttle_events == 7
    assert conditions.stolen_s == 250 / os.sysconf("SC_CLK_TCK")
    environment = read_environment(root)
    assert (environment.hypervisor, environment.container) == ("QEMU", "kubepods")
    assert environment.virtualized is True
    assert environment.cpu_features == ("avx2", "avx512_vnni")


@pytest.mark.parametrize(
    ("architecture", "cpuinfo", "reason"),
    [
        ("x86_64", "model name\t: QEMU TCG CPU version 2.5+\n", "QEMU TCG CPU version 2.5+"),
        ("aarch64", "vendor_id\t: AuthenticAMD\n", "uname says aarch64"),
        ("x86_64", "vendor_id\t: x\nmodel name\t: VirtualApple @ 2.50GHz\n", "VirtualApple"),
        ("x86_64", "vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n", None),
        ("aarch64", "CPU implementer\t: 0x41\n", None),
    ],
)
def test_emulation_is_detected(
    tmp_path: Path, architecture: str, cpuinfo: str, reason: str | None
) -> None:
    evidence = detect_emulation(tmp_path, architecture, cpuinfo)
    assert evidence is None if reason is None else reason in (evidence or "")


def test_container_for_another_cpu_is_emulated(tmp_path: Path) -> None:
    """tests/boards tests a real container."""
    program = tmp_path / "proc/thread-self/exe"
    program.parent.mkdir(parents=True)
    program.symlink_to("/usr/bin/qemu-aarch64-static")
    cpuinfo = "CPU implementer\t: 0x41\n"
    assert "qemu-aarch64-static" in (detect_emulation(tmp_path, "aarch64", cpuinfo) or "")
    program.unlink()
    program.symlink_to("/usr/bin/python3.11")
    assert detect_emulation(tmp_path, "aarch64", cpuinfo) is None


@pytest.mark.parametrize(
    ("output", "descriptions"),
    [
        ("throttled=0x0\n", ()),
        (None, ()),
        ("throttled=0x50005\n", ("under-voltage", "throttled", "under-voltage since boot",
                                 "throttled since boot")),
        ("throttled=0x80008", ("soft temperature limit", "soft temperature limit since boot")),
    ],
)  # fmt: skip
def test_throttled_bits_are_decoded(output: str | None, descriptions: tuple[str, ...]) -> None:
    assert parse_throttled(output) == descriptions


def instability(processes: Sequence[ProcessSamples]) -> tuple[str, ...]:
    cell = dataclasses.replace(measurement("a", 1, 1), processes=tuple(processes))
    return cell.instability


def test_disturbances_of_a_cell_are_listed() -> None:
    before = Conditions(frequency_mhz=1500, throttle_events=3, stolen_s=10)
    after = Conditions(frequency_mhz=600, throttle_events=5, stolen_s=10.5)
    disturbed = process_samples(
        np.full(1000, 1e-5), before=before, after=after, seconds=2.0, preempted=900, settled=False
    )
    assert instability((disturbed,)) == (
        "the latency was still falling at the end of the warm-up",
        "the hypervisor took 25% of the CPU time",
        "other processes preempted it 450 times a second",
        "the CPU was throttled because it was too hot",
        "the CPU clock varied from 600 to 1500 MHz",
    )
    calm = process_samples(
        np.full(1000, 1e-5), before=before, after=before, seconds=2.0, preempted=9
    )
    assert instability((calm,)) == ()
    coarse = [process_samples(np.full(1000, t), timer_s=4e-8) for t in (1.7e-8, 1.9e-8)]
    assert instability(coarse) == ()
    few = process_samples(np.full(100, 1e-5))
    assert instability((few,)) == ("100 samples, too few for p99",)
