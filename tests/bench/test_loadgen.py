"""Test of the figures of the scenarios against those of MLPerf's LoadGen, on the same calls."""

from __future__ import annotations

import pytest

from benchmarks import loadgen


@pytest.mark.slow
def test_the_figures_of_the_scenarios_are_those_of_loadgen() -> None:
    """LoadGen also counts its own time between a query and its answer, tens of microseconds."""
    pytest.importorskip("mlperf_loadgen")
    rows = {row["scenario"]: row for row in loadgen.measure(seconds=1)}
    assert set(rows) == {"single-stream", "multi-stream", "offline"}
    for row in rows.values():
        assert row["queries"] >= 30
        assert row["loadgen_s"] >= 0.98 * row["queries_s"]
    # A query of eight images takes half a millisecond, which hides LoadGen's own time.
    multi_stream = rows["multi-stream"]
    assert multi_stream["loadgen_s"] <= 1.25 * multi_stream["queries_s"]
