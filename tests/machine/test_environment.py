"""The facts of this machine, against other ways to ask for them."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
from pathlib import Path

import numpy as np

from lenet_edge import __version__
from lenet_edge.machine.environment import capture


def test_the_facts_of_this_machine() -> None:
    found = capture()
    assert found.machine
    assert found.cpu
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found.architecture == os.uname().machine
    assert found.kernel == os.uname().release
    assert found.python == sys.version.split()[0]
    assert found.operating_system == platform.freedesktop_os_release()["PRETTY_NAME"]
    assert found.packages["numpy"] == np.__version__
    assert found.packages["lenet-edge"] == __version__


def test_what_the_machine_may_not_tell() -> None:
    found = capture()
    assert found.governor is None or found.governor.isidentifier()
    assert found.frequency_mhz is None or 100 < found.frequency_mhz < 10_000
    assert found.temperature_celsius is None or -20 < found.temperature_celsius < 120
    assert set(found.cpu_features) <= set(Path("/proc/cpuinfo").read_text().split())


def test_it_is_plain_data() -> None:
    found = capture()
    again = json.loads(json.dumps(dataclasses.asdict(found)))
    assert again["cpu"] == found.cpu
    assert tuple(again["cpu_features"]) == found.cpu_features
