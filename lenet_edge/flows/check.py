"""The check before a benchmark: each pair predicts a few test images as the float model does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from lenet_edge.bench.plan import Plan
from lenet_edge.data.evaluation_images import has_reference
from lenet_edge.results.enough_images import NUM_CHECKED
from lenet_edge.results.result_file import ParityReport, Skipped
from lenet_edge.selection import Pair
from lenet_edge.verify.verdict import read_bounds
from lenet_edge.verify.verify import verify


def is_checked(pair: Pair) -> bool:
    """Return False on the null target, which predicts nothing and measures the harness."""
    return pair.target.name != "null"


def check(
    planned: Plan, report: Callable[[str], None] = lambda step: None
) -> tuple[Plan, list[ParityReport], list[Skipped]]:
    """Verify each pair of a plan on the first test images, with the interpreter that measures it.

    Args:
        planned: the plan.
        report: called with the name of each pair after its check.

    Returns:
        The plan without the pairs that did not run; a parity report for each pair whose float
        model's logits are recorded; and the pairs that did not run, with the reason.
    """
    pairs = list(dict.fromkeys(cell.pair for cell in planned.cells))
    parity, failed = verify(
        [pair for pair in pairs if is_checked(pair) and has_reference(pair.artifact)],
        read_bounds(Path()),
        on_progress=report,
        num_images=NUM_CHECKED,
        timeout_s=planned.timeout_s,
        python_for=planned.python_for,
    )
    return without_pairs(planned, failed), parity, failed


def without_pairs(planned: Plan, skipped: Iterable[Skipped]) -> Plan:
    """Return a plan without the skipped pairs: they would fail again at each batch size."""
    names = {(skip.artifact, skip.target) for skip in skipped}
    cells = tuple(cell for cell in planned.cells if cell.key[:2] not in names)
    return dataclasses.replace(planned, cells=cells)
