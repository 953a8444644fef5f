"""Which file to ship, and on which runtime: one answer from a run's parity and latencies."""

from __future__ import annotations

from dataclasses import dataclass

from lenet_edge.results import BenchRun, Measurement, ParityReport


@dataclass(frozen=True)
class Recommendation:
    """The choice, what was proven of it, and the candidates that are as fast as it."""

    measurement: Measurement
    parity: ParityReport
    ties: tuple[Measurement, ...]

    def __str__(self) -> str:
        chosen = self.measurement
        why = (
            f"fastest at batch {chosen.batch_size} ({chosen.p50_s * 1e6:,.1f} µs)"
            if not self.ties
            else f"as fast at batch {chosen.batch_size} ({chosen.p50_s * 1e6:,.1f} µs) as"
            f" {' and '.join(f'{m.artifact} on {m.target}' for m in self.ties)}, and smaller"
        )
        drop = self.parity.accuracy_drop
        proof = f"{drop:.2f} points of accuracy lost" if drop and drop > 0 else "no accuracy lost"
        doubt = "" if self.parity.passed else " Too few images to be sure."
        return (
            f"Ship {chosen.artifact} on {chosen.target}: {why}, {chosen.size_bytes:,} bytes,"
            f" {proof} on {self.parity.num_samples:,} images.{doubt}"
        )


def recommend(run: BenchRun) -> Recommendation | None:
    """Return the fastest file × target, at the smallest batch measured, that is still right.

    Only what passed parity in the same run is considered (where nothing could, for want of images,
    what did not fail), and no checkpoint: that is not an edge file. Where the interval of the ratio
    of two medians contains 1, speed does not decide and the smaller file wins. None when nothing
    passed.
    """
    verdict = "pass" if any(one.passed for one in run.parity) else "inconclusive"
    proven = {(r.candidate_sha256, r.target): r for r in run.parity if r.verdict == verdict}
    candidates = [
        one
        for one in run.measurements
        if (one.artifact_sha256, one.target) in proven
        and one.invalid is None
        and not one.artifact.endswith(".keras")
    ]
    if not candidates:
        return None
    batch_size = min(one.batch_size for one in candidates)
    candidates = [one for one in candidates if one.batch_size == batch_size]
    fastest = min(candidates, key=lambda one: one.p50_s)
    resolution = run.settings.get("precision", 0.0)
    equal = [
        one for one in candidates if one.over(fastest, paired=True, resolution=resolution).low <= 1
    ]
    chosen = min(equal, key=lambda one: (one.size_bytes, one.p50_s))
    ties = tuple(one for one in equal if one is not chosen)
    return Recommendation(chosen, proven[chosen.artifact_sha256, chosen.target], ties)
