"""Short forms of `worst_request` and `soak`."""

from __future__ import annotations

import pytest

from tests.reliability import soak, worst_request

_SLACK_S = 8.0  # for a machine under load


@pytest.mark.slow
def test_the_worst_requests_cost_bounded_memory_and_delay_others_little() -> None:
    """All of them, with their times: python -m tests.reliability.worst_request"""
    names = [
        "JSON", "PNG, 1 x", "PNG, 50 MP of 16 bits", "interlaced", "the most coefficients",
        "2,000 scans", "empty", "overlap", "noise",
    ]  # fmt: skip
    costs = list(worst_request.measure(names))
    assert len(costs) > 15
    for cost in costs:
        assert worst_request.faults(cost) == []
        assert cost.status in (400, 413)
        assert max(cost.delays_s) < worst_request.MAX_DELAY_S + _SLACK_S


@pytest.mark.slow
def test_mixed_load_gives_no_wrong_prediction_and_loses_no_memory() -> None:
    """An hour of it: python -m tests.reliability.soak"""
    load, faults = soak.soak(0.5, seed=1)
    assert faults == []
    for name in ("pixels 200", "drawing 200", "junk 400", "aborted", "slow half-closed",
                 "worker killed", "worker stopped"):  # fmt: skip
        assert load.counts[name] > 0, name
