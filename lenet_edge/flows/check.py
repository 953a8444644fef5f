"""Before anything is timed: does each file answer right on each target?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from lenet_edge.bench.plan import Plan
from lenet_edge.data.evaluation_images import has_reference
from lenet_edge.results.result_file import ParityReport, Skipped
from lenet_edge.verify.verdict import read_bounds
from lenet_edge.verify.verify import verify

NUM_IMAGES = 256  # few enough for a GPU in software, enough to see one that is wrong


def check(
    planned: Plan, report: Callable[[str], None] = lambda what: None
) -> tuple[Plan, list[ParityReport], list[Skipped]]:
    """Verify each pair of a plan on the first test images, in the process it will be timed in.

    Returns:
        The plan without what could not run; a report for each pair whose float model's answers
        are recorded; and what could not run, with the reason.
    """
    pairs = list(dict.fromkeys(cell.pair for cell in planned.cells))
    known = [pair for pair in pairs if has_reference(pair.artifact)]
    parity, failed = verify(
        known,
        read_bounds(Path()),
        on_progress=report,
        num_images=NUM_IMAGES,
        timeout_s=planned.timeout_s,
        python_for=planned.python_for,
    )
    gone = {(one.artifact, one.target) for one in failed}
    cells = tuple(cell for cell in planned.cells if cell.key[:2] not in gone)
    return dataclasses.replace(planned, cells=cells), parity, failed
