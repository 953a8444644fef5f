"""Ranking of cells by latency or throughput, with ties and with marks of coarse samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from lenet_edge.results.formatting import latency, plural
from lenet_edge.results.result_file import BenchRun, Measurement

_MAX_NAMED = 4  # cells in one sentence about a tie


@dataclass(frozen=True)
class Scenario:
    """Arrival pattern of inferences, and the figure that decides there.

    Attributes:
        batch_sizes: batch sizes to measure.
        quantile: quantile of the latency that decides; None if the throughput decides.
        metric: name of that figure.
    """

    batch_sizes: tuple[int, ...]
    quantile: float | None
    metric: str


# Source: MLPerf Inference rules, "Scenarios". Single-stream sends one query after another, offline
# sends all samples at once, multi-stream sends 8 samples per query.
SCENARIOS = {
    "single-stream": Scenario((1,), 0.9, "p90"),
    "offline": Scenario((1, 8, 32, 128), None, "images/s"),
    "multi-stream": Scenario((8,), 0.99, "p99"),
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


@dataclass(frozen=True)
class Rank:
    """Place of a cell among the cells of its batch size and thread count.

    Attributes:
        place: 1 for the fastest cell.
        tied_with: the cells of that place that are equally fast: within 10 % for certain.
        unseparated_from: the cells of that place that may be more than 10 % faster or slower.
    """

    place: int
    tied_with: tuple[Measurement, ...] = ()
    unseparated_from: tuple[Measurement, ...] = ()

    def __str__(self) -> str:
        mark = "=" if self.tied_with else "?" if self.unseparated_from else ""
        return f"{self.place}{mark}"


def ranks(run: BenchRun) -> dict[tuple[str, str, int, int], Rank]:
    """Return the rank of each cell among the cells of its batch size and thread count.

    Cells share a place if the interval of their latency ratio to its fastest cell contains 1. The
    following cells have no rank:
      - cells on the null target, which does nothing;
      - invalid measurements;
      - pairs that failed parity, or whose delegate left nodes to another device;
      - all cells of an emulated machine.

    Returns:
        The rank by `Measurement.key`.
    """
    if run.environment.emulated:
        return {}
    failed = run.failed_pairs

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
    quantile, resolution = ranking_quantile(run), run.settings.get("precision", 0.0)
    rank_by_key = {}
    for _, cells in groupby(valid, key=batch_and_threads):
        place = 1
        for first, tied, unseparated in _places(list(cells), run.paired, quantile, resolution):
            rank_by_key[first.key] = Rank(place, tuple(tied), tuple(unseparated))
            for cell in tied:
                others = (other for other in (first, *tied) if other is not cell)
                rank_by_key[cell.key] = Rank(place, tuple(others))
            for cell in unseparated:
                rank_by_key[cell.key] = Rank(place, (), (first,))
            place += 1 + len(tied) + len(unseparated)
    return rank_by_key


def _places(
    cells: Sequence[Measurement], paired: bool, quantile: float | None, resolution: float
) -> list[tuple[Measurement, list[Measurement], list[Measurement]]]:
    """Return each place: its fastest cell, the tied cells, and the cells not separated."""
    places: list[tuple[Measurement, list[Measurement], list[Measurement]]] = []
    for cell in sorted(cells, key=lambda cell: ranking_latency_s(cell, quantile)):
        if places:
            first, tied, unseparated = places[-1]
            ratio = cell.ratio_to(first, paired, resolution, quantile)
            if ratio.low <= 1:
                (tied if ratio.tied else unseparated).append(cell)
                continue
        places.append((cell, [], []))
    return places


def tie_lines(run: BenchRun) -> list[str]:
    """Return a sentence for each place that several cells share, with their names and latencies."""
    quantile = ranking_quantile(run)
    rank_by_key = ranks(run)
    lines = []
    for cell in sorted(run.measurements, key=lambda cell: (cell.key[2:], cell.key)):
        rank = rank_by_key.get(cell.key)
        others = rank and (*rank.tied_with, *rank.unseparated_from)
        latency_s = ranking_latency_s(cell, quantile)
        if not rank or not others or ranking_latency_s(others[0], quantile) < latency_s:
            continue
        threads = f", {plural(cell.num_threads, 'thread')}" if cell.num_threads > 1 else ""
        verbs = ("ties with", rank.tied_with), ("cannot be separated from", rank.unseparated_from)
        phrases = [f"{verb} {_names(cells, quantile)}" for verb, cells in verbs if cells]
        lines.append(
            f"Rank {rank} at batch {cell.batch_size}{threads}: {_names([cell], quantile)}"
            f" {', and '.join(phrases)}"
        )
    return lines


def _names(cells: Sequence[Measurement], quantile: float | None) -> str:
    """Return the names and latencies of a few cells, and the number of the rest."""
    names = [_with_latency(cell, quantile) for cell in cells[:_MAX_NAMED]]
    if len(cells) > len(names):
        names.append(f"{len(cells) - len(names)} more")
    return " and ".join(names)


def _with_latency(cell: Measurement, quantile: float | None) -> str:
    return f"{cell.artifact} on {cell.target} ({latency(ranking_latency_s(cell, quantile))})"
