"""The plan of a benchmark: its cells, and running each in a process of its own."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lenet_edge import worker
from lenet_edge.bench.timing import StopRule
from lenet_edge.errors import LenetEdgeError
from lenet_edge.results import Measurement, Skipped
from lenet_edge.selection import Pair

DEFAULT_BATCH_SIZES = (1, 8, 32, 128)


@dataclass(frozen=True)
class Cell:
    """One thing to measure."""

    pair: Pair
    batch_size: int
    num_threads: int

    def __str__(self) -> str:
        where = f"{self.pair.artifact.name} on {self.pair.target.name}"
        return f"{where}, batch {self.batch_size}"


def expand(
    pairs: Sequence[Pair], batch_sizes: Sequence[int], num_threads: int, seed: int = 0
) -> list[Cell]:
    """Return every cell, in a random but seeded order, so that drift favours none of them.

    A file with a fixed batch is measured at that one only.
    """
    cells = [
        Cell(pair, batch_size, num_threads)
        for pair in pairs
        for batch_size in batch_sizes
        if pair.artifact.batch_size in (None, batch_size)
    ]
    random.Random(seed).shuffle(cells)
    return cells


def run(
    cells: Sequence[Cell],
    stop: StopRule | None = None,
    report: Callable[[str], None] = lambda what: None,
) -> tuple[list[Measurement], list[Skipped]]:
    """Measure each cell in a fresh process; one that fails costs itself and nothing else.

    Args:
        cells: what to measure, in this order.
        stop: when a cell has enough samples.
        report: called with what was measured as each cell is done.

    Returns:
        The measurements, sorted by file, target and batch size; and what failed, with the reason.
    """
    stop = stop or StopRule()
    measurements: list[Measurement] = []
    skipped: dict[tuple[str, str, str], Skipped] = {}
    for cell in cells:
        artifact, target = cell.pair.artifact, cell.pair.target
        try:
            answer = worker.call(
                "bench.timing:measure",
                artifact=artifact.to_json(),
                target=target.name,
                batch_size=cell.batch_size,
                num_threads=cell.num_threads,
                stop=dataclasses.asdict(stop),
            )
        except LenetEdgeError as error:
            key = (artifact.name, target.name, str(error))
            skipped.setdefault(key, Skipped(target.name, str(error), artifact.name))
            report(f"{cell}: {error}")
            continue
        measurement = Measurement.from_json(answer)
        measurements.append(measurement)
        report(f"{cell}: {measurement.p50_s * 1e6:,.1f} us")
    measurements.sort(key=lambda one: (one.artifact, one.target, one.batch_size))
    return measurements, list(skipped.values())
