"""A network of MLPerf Tiny with depthwise layers on emulated Cortex-M cores: exact to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.native import mlperf_tiny
from lenet_edge.microcontrollers.cores import CORES
from tests.cortex_m import lenet
from tests.cortex_m.random_graphs import run_cases
from tests.export.native_random import differences, make_case


@pytest.mark.slow
@pytest.mark.needs(*lenet.PROGRAMS)
def test_keyword_spotting_is_exact(tmp_path: Path) -> None:
    case = make_case("ds_cnn", mlperf_tiny.make("ds_cnn"), count=3)
    for core in ("cortex-m3", "cortex-m4", "cortex-m55"):
        (outputs,) = run_cases([case], CORES[core], tmp_path)
        assert differences(case, outputs) == "", core
