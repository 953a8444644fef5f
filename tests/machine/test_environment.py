"""Tests of the description of this machine, compared with other sources of the same facts."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
from pathlib import Path

import numpy as np

from lenet_edge import __version__
from lenet_edge.machine.environment import read_environment


def test_facts_match_other_sources() -> None:
    environment = read_environment()
    assert environment.machine
    assert environment.cpu
    assert 1 <= environment.cores <= (os.cpu_count() or 1)
    assert environment.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert environment.architecture == os.uname().machine
    assert environment.kernel == os.uname().release
    assert environment.python == sys.version.split()[0]
    assert environment.operating_system == platform.freedesktop_os_release()["PRETTY_NAME"]
    assert environment.packages["numpy"] == np.__version__
    assert environment.packages["lenet-edge"] == __version__


def test_optional_facts_are_plausible() -> None:
    environment = read_environment()
    assert environment.governor is None or environment.governor.isidentifier()
    assert environment.frequency_mhz is None or 100 < environment.frequency_mhz < 10_000
    assert environment.temperature_celsius is None or -20 < environment.temperature_celsius < 120
    assert set(environment.cpu_features) <= set(Path("/proc/cpuinfo").read_text().split())


def test_environment_is_json_data() -> None:
    environment = read_environment()
    restored = json.loads(json.dumps(dataclasses.asdict(environment)))
    assert restored["cpu"] == environment.cpu
    assert tuple(restored["cpu_features"]) == environment.cpu_features
