"""A short form of `long_runs`."""

from __future__ import annotations

from pathlib import Path

import pytest

from lenet_edge.target import Target
from tests.reliability import long_runs

_SLOW_TARGETS = ("tensorflow", "micro")  # a call takes 0.4 to 4 ms
# The first target of each runtime; `long_runs` runs all.
_TARGETS = {target.runtime: target for target in reversed(list(long_runs.targets()))}.values()


@pytest.mark.slow
@pytest.mark.parametrize("target", _TARGETS, ids=lambda target: target.name)
def test_a_long_session_stays_right_and_does_not_grow(target: Target, exports: Path) -> None:
    """100,000 inferences: python -m tests.reliability.long_runs"""
    count = 1_500 if any(name in target.name for name in _SLOW_TARGETS) else 15_000
    path = long_runs.file_for(target, exports)
    result = long_runs.run(path, target, count)
    assert long_runs.failure(result) is None
    assert result["count"] == count
