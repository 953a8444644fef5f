"""Which cells are faster than which, where the samples can tell; ties are admitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from lenet_edge.results.result_file import BenchRun, Measurement


@dataclass(frozen=True)
class Scenario:
    """A way that inferences arrive, and the one figure that counts there.

    `quantile` is that of the latency, or None where throughput counts.
    """

    batch_sizes: tuple[int, ...]
    quantile: float | None
    metric: str


# Source: MLPerf Inference rules, "Scenarios": one query after another; all samples at once; 8
# samples a query.
SCENARIOS = {
    "single-stream": Scenario((1,), 0.9, "p90"),
    "offline": Scenario((1, 8, 32, 128), None, "images/s"),
    "multi-stream": Scenario((8,), 0.99, "p99"),
}


def quantile_of(run: BenchRun) -> float | None:
    """Return which quantile of latency a run is ranked by: its scenario's, or the median."""
    scenario = SCENARIOS.get(run.settings.get("scenario") or "")
    return scenario.quantile if scenario else 0.5


def latency_s(one: Measurement, quantile: float | None) -> float:
    """Return the latency that a cell is ranked by: a quantile, or where it is None the mean."""
    return one.mean_s if quantile is None else one.quantile_s(quantile)


def ranks(run: BenchRun) -> dict[tuple[str, str, int, int], str]:
    """Return the place of each valid cell among those of its batch size and threads.

    Two cells whose ratio's interval contains 1 are equal: "2=" stands at both. The null target,
    which does nothing, has no place; nor has what answers wrong, or left a part to the CPU, nor
    anything that an emulator ran.
    """
    if run.environment.emulated:
        return {}
    wrong = {(one.candidate_sha256, one.target) for one in run.parity if one.verdict == "fail"}
    quantile, resolution = quantile_of(run), run.settings.get("precision", 0.0)
    found = {}

    def alike(one: Measurement) -> tuple[int, int]:
        return one.batch_size, one.num_threads

    valid = sorted(
        (
            one
            for one in run.measurements
            if not one.invalid
            and one.target != "null"
            and (one.artifact_sha256, one.target) not in wrong
            and (one.delegation is None or one.delegation.is_complete)
        ),
        key=alike,
    )
    for _, cells in groupby(valid, key=alike):
        place = 1
        for group in _tied(list(cells), run.paired, quantile, resolution):
            for one in group:
                found[one.key] = f"{place}=" if len(group) > 1 else f"{place}"
            place += len(group)
    return found


def _tied(
    cells: Sequence[Measurement], paired: bool, quantile: float | None, resolution: float
) -> list[list[Measurement]]:
    groups: list[list[Measurement]] = []
    for one in sorted(cells, key=lambda one: latency_s(one, quantile)):
        if groups:
            ratio = one.ratio_to(groups[-1][0], paired, resolution, quantile)
            if ratio.low <= 1:
                groups[-1].append(one)
                continue
        groups.append([one])
    return groups
