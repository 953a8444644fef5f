"""The check before a benchmark."""

from __future__ import annotations

from pathlib import Path

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.bench.plan import Plan, expand
from lenet_edge.flows.check import check
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair

EXPORTED = Path(__file__).parents[2] / "exported"


def test_the_null_target_is_not_checked() -> None:
    pair = Pair(load_artifact(EXPORTED / "lenet_int8.tflite"), get_target("null"))
    planned = Plan(expand([pair], (1,)))
    assert check(planned) == (planned, [], [])
