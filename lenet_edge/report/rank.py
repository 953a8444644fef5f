"""Ranking of cells by latency or throughput, with ties where the samples cannot separate them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from lenet_edge.results.result_file import BenchRun, Measurement


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
    return measurement.mean_s if quantile is None else measurement.quantile_s(quantile)


def ranks(run: BenchRun) -> dict[tuple[str, str, int, int], str]:
    """Return the rank of each cell among the cells of its batch size and thread count.

    Two cells are tied if the interval of their latency ratio contains 1: both get "2=", for
    example. The following cells have no rank:
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
    quantile, resolution = ranking_quantile(run), run.settings.get("precision", 0.0)

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
    rank_by_key = {}
    for _, cells in groupby(valid, key=batch_and_threads):
        rank = 1
        for tied in _ties(list(cells), run.paired, quantile, resolution):
            for measurement in tied:
                rank_by_key[measurement.key] = f"{rank}=" if len(tied) > 1 else f"{rank}"
            rank += len(tied)
    return rank_by_key


def _ties(
    cells: Sequence[Measurement], paired: bool, quantile: float | None, resolution: float
) -> list[list[Measurement]]:
    """Return groups of tied cells, the fastest group first."""
    groups: list[list[Measurement]] = []
    for cell in sorted(cells, key=lambda cell: ranking_latency_s(cell, quantile)):
        if groups and cell.ratio_to(groups[-1][0], paired, resolution, quantile).low <= 1:
            groups[-1].append(cell)
        else:
            groups.append([cell])
    return groups
