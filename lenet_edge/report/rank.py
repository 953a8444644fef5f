"""Ranking of cells by latency or throughput, with ties and with marks of coarse samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from lenet_edge.results.formatting import latency, name_some, plural
from lenet_edge.results.result_file import BenchRun, Measurement

_MAX_NAMED = 4  # cells in one sentence about a tie


@dataclass(frozen=True)
class Scenario:
    """Arrival pattern of inferences, and the figure that decides there.

    Attributes:
        batch_sizes: batch sizes to measure.
        quantile: quantile of the latency that decides; None if the throughput decides.
    """

    batch_sizes: tuple[int, ...]
    quantile: float | None


# Source: MLPerf Inference rules, "Scenarios". Single-stream sends one query after another, offline
# sends all samples at once, multi-stream sends 8 samples per query.
SCENARIOS = {
    "single-stream": Scenario((1,), 0.9),
    "offline": Scenario((1, 8, 32, 128), None),
    "multi-stream": Scenario((8,), 0.99),
}


def ranking_quantile(run: BenchRun) -> float | None:
    """Return the quantile of the latency that ranks a run's cells; None for the mean.

    The run's scenario decides. Without a scenario it is the median.
    """
    scenario = SCENARIOS.get(run.settings.get("scenario") or "")
    return scenario.quantile if scenario else 0.5


def ranking_latency_s(measurement: Measurement, quantile: float | None) -> float:
    """Return the latency that ranks a cell: a quantile, or the mean if `quantile` is None."""
    return measurement.estimate(quantile).value


@dataclass
class RankingPlace:
    """Place in the ranking of the cells of one batch size and thread count.

    Attributes:
        number: 1 for the place of the fastest cell.
        fastest: the fastest cell of the place.
        tied: the other cells that are equally fast: within 10 % for certain.
        unseparated: the other cells, which may be more than 10 % slower.
    """

    number: int
    fastest: Measurement
    tied: list[Measurement] = field(default_factory=list)
    unseparated: list[Measurement] = field(default_factory=list)

    @property
    def rank(self) -> str:
        """Rank of the fastest cell: the number, with a mark if other cells share the place."""
        return f"{self.number}{'=' if self.tied else '?' if self.unseparated else ''}"


def ranks(run: BenchRun) -> dict[tuple[str, str, int, int], str]:
    """Return the rank of each ranked cell by `Measurement.key`: "2", "2=" or "2?"."""
    rank_by_key = {}
    for place in places(run):
        rank_by_key[place.fastest.key] = place.rank
        rank_by_key |= {cell.key: f"{place.number}=" for cell in place.tied}
        rank_by_key |= {cell.key: f"{place.number}?" for cell in place.unseparated}
    return rank_by_key


def places(run: BenchRun) -> list[RankingPlace]:
    """Return the places of the cells, in the order of batch size, thread count and number.

    Cells share a place if the interval of their latency ratio to its fastest cell contains 1. The
    following cells have no place:
      - cells on the null target, which does nothing;
      - invalid measurements;
      - pairs that failed parity, or whose delegate left nodes to another device;
      - all cells of an emulated machine.
    """
    if run.environment.emulated:
        return []
    failed = run.failed_pairs
    quantile = ranking_quantile(run)

    def batch_and_threads(measurement: Measurement) -> tuple[int, int]:
        return measurement.batch_size, measurement.num_threads

    valid = sorted(
        (
            measurement
            for measurement in run.measurements
            if not measurement.invalid
            and measurement.target != "null"
            and (measurement.artifact_sha256, measurement.target) not in failed
            and (measurement.delegation is None or not measurement.delegation.falls_back)
        ),
        key=batch_and_threads,
    )
    all_places: list[RankingPlace] = []
    for _, group in groupby(valid, key=batch_and_threads):
        place = None
        cells = sorted(group, key=lambda cell: ranking_latency_s(cell, quantile))
        for number, cell in enumerate(cells, 1):
            if place:
                ratio = cell.ratio_to(place.fastest, run.paired, run.precision, quantile)
                if ratio.equal:
                    (place.tied if ratio.tied else place.unseparated).append(cell)
                    continue
            place = RankingPlace(number, cell)
            all_places.append(place)
    return all_places


def tie_lines(run: BenchRun) -> list[str]:
    """Return a sentence for each place that several cells share, with their names and latencies."""
    quantile = ranking_quantile(run)

    def names(cells: Sequence[Measurement]) -> str:
        texts = [
            f"{cell.artifact} on {cell.target} ({latency(ranking_latency_s(cell, quantile))})"
            for cell in cells
        ]
        return name_some(texts, _MAX_NAMED)

    lines = []
    for place in sorted(places(run), key=lambda place: (place.fastest.key[2:], place.fastest.key)):
        cell = place.fastest
        verbs = ("ties with", place.tied), ("cannot be separated from", place.unseparated)
        phrases = [f"{verb} {names(cells)}" for verb, cells in verbs if cells]
        if phrases:
            threads = f", {plural(cell.num_threads, 'thread')}" if cell.num_threads > 1 else ""
            lines.append(
                f"Rank {place.rank} at batch {cell.batch_size}{threads}: {names([cell])}"
                f" {', and '.join(phrases)}"
            )
    return lines
