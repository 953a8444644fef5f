"""What a stage found out, as plain data, and the JSON file that holds it.

    BenchRun                one run of `verify`, `bench` or both, on one machine
    ├── Environment         the machine
    ├── Measurement *       latencies of one file on one target at one batch size
    ├── ParityReport *      is one file on one target still right?
    └── Skipped *           what did not run, and why

Schema versions: 1 (2026-11); 2 (2026-11): parity has a verdict, bounds and details.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
import math
import subprocess
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifact import atomic_write
from lenet_edge.environment import Environment, capture
from lenet_edge.errors import DataError

SCHEMA_VERSION = 2
_ENCODING = "base64 of zlib of little-endian uint32 nanoseconds"

# MLPerf inference rules: below these counts a percentile says more about luck than about the tail.
MIN_SAMPLES_P90 = 64
MIN_SAMPLES_P99 = 662


@dataclass(frozen=True)
class Measurement:
    """Latencies of one file on one target, from one process of its own.

    `latencies_s` holds one float64 for each inference, in the order they ran; everything said of
    them is derived. `prepare_s` and `readout_s` are medians. `invalid` says why the figures
    should not be used; None means that they may.
    """

    artifact: str
    artifact_sha256: str
    size_bytes: int
    target: str
    runtime_version: str
    batch_size: int
    num_threads: int
    load_time_s: float
    first_inference_s: float
    prepare_s: float
    readout_s: float
    warmup_runs: int
    latencies_s: npt.NDArray[np.float64]
    peak_rss_bytes: int
    delegate: str | None = None
    nodes_total: int | None = None
    nodes_taken: int | None = None
    invalid: str | None = None

    @property
    def p50_s(self) -> float:
        """Median latency of one call."""
        return float(np.median(self.latencies_s))

    @property
    def p90_s(self) -> float | None:
        """90th percentile; None below the 64 samples that it needs."""
        return self._percentile(90, MIN_SAMPLES_P90)

    @property
    def p99_s(self) -> float | None:
        """99th percentile; None below the 662 samples that it needs."""
        return self._percentile(99, MIN_SAMPLES_P99)

    def _percentile(self, percent: int, min_samples: int) -> float | None:
        if len(self.latencies_s) < min_samples:
            return None
        return float(np.percentile(self.latencies_s, percent))

    @property
    def p50_interval_s(self) -> tuple[float, float]:
        """95 % confidence interval of the median."""
        return median_interval(self.latencies_s)

    @property
    def images_per_s(self) -> float:
        """Throughput at the median latency."""
        return self.batch_size / self.p50_s

    def to_json(self) -> dict[str, Any]:
        """Return what a JSON file holds: the raw samples, packed, and what is derived of them."""
        nanoseconds = np.rint(self.latencies_s * 1e9).clip(0, 2**32 - 1).astype("<u4")
        packed = base64.b64encode(zlib.compress(nanoseconds.tobytes(), 9)).decode()
        return {
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)},
            "latencies_s": {"encoding": _ENCODING, "data": packed},
            "derived": {
                "num_runs": len(self.latencies_s),
                "p50_s": self.p50_s,
                "p50_interval_s": self.p50_interval_s,
                "p90_s": self.p90_s,
                "p99_s": self.p99_s,
                "mean_s": float(np.mean(self.latencies_s)),
                "stdev_s": float(np.std(self.latencies_s)),
                "min_s": float(np.min(self.latencies_s)),
                "images_per_s": self.images_per_s,
            },
        }

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Measurement:
        """Return the Measurement that `to_json` wrote; what was derived is derived again."""
        packed = zlib.decompress(base64.b64decode(facts["latencies_s"]["data"]))
        samples = np.frombuffer(packed, "<u4") / 1e9
        names = {f.name for f in dataclasses.fields(cls)}
        known = {name: value for name, value in facts.items() if name in names}
        return cls(**{**known, "latencies_s": samples})


def median_interval(samples: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median, by order statistics.

    Source: W. J. Conover, "Practical Nonparametric Statistics", 3rd ed., section 3.2.
    """
    count = len(samples)
    spread = 1.96 * np.sqrt(count) / 2
    low = max(int(np.floor(count / 2 - spread)) - 1, 0)
    high = min(int(np.ceil(count / 2 + spread)), count - 1)
    ordered = np.partition(samples, (low, high))
    return float(ordered[low]), float(ordered[high])


@dataclass(frozen=True)
class Flip:
    """A test image whose predicted class the candidate changed.

    `label` is None where it is not known; `now` is -1 where the answer is no number. The
    confidences are the softmax probabilities of `was` and `now`, each by the model that chose it.
    """

    index: int
    label: int | None
    was: int
    now: int
    was_confidence: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class ClassCount:
    """How many images of one class there are, and how many each model gets right."""

    name: str
    num_samples: int
    reference_right: int
    candidate_right: int


@dataclass(frozen=True)
class LayerError:
    """What one layer of a quantized file does to the values of its float sibling.

    `sqnr_db` is the signal-to-quantization-noise ratio of the layer's output, and `lost_db` how
    much of it was lost in this very layer; None stands for no noise at all. `saturation` is the
    share of values outside the `range` that the layer can hold; `seen` is the range of the values.
    """

    name: str
    kind: str
    sqnr_db: float | None
    lost_db: float
    max_abs_error: float
    saturation: float
    range: tuple[float, float] | None
    seen: tuple[float, float]
    hint: str = ""


@dataclass(frozen=True)
class Bounds:
    """What a file may lose and still pass; None is not looked at.

    `max_accuracy_drop` is in percentage points, `min_agreement` in percent of the images,
    `max_abs_error` in units of the logits.
    """

    max_accuracy_drop: float | None = None
    min_agreement: float | None = None
    max_abs_error: float | None = None


@dataclass(frozen=True)
class ParityReport:
    """Whether a file on a target still answers as the float model, or another file, does.

    `verdict` is "pass", "fail" or "inconclusive" (too few images to tell), and `reasons` say why
    in words. Accuracies and agreement are fractions of `num_samples`; `accuracy_drop` is in
    percentage points, positive where the candidate is worse. What needs labels is None without
    them. Errors are in units of the logits; `non_finite` counts images answered with NaN or
    infinity. `confusion` counts images by (label, predicted class), left out above 100 classes.
    Confidences are means over the images of the winning class's probability; `confidence_drift` is
    the mean absolute change of it. `diagnosis` says what is wrong with the input, where that is it.
    """

    reference: str
    candidate: str
    candidate_sha256: str
    target: str
    num_samples: int
    reference_accuracy: float | None
    candidate_accuracy: float | None
    accuracy_drop: float | None
    top1_agreement: float
    flips: tuple[Flip, ...]
    mcnemar_p: float | None
    max_abs_error: float
    mean_abs_error: float
    non_finite: int
    verdict: str
    reasons: tuple[str, ...] = ()
    bounds: Bounds = Bounds()
    per_class: tuple[ClassCount, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    reference_confidence: float | None = None
    candidate_confidence: float | None = None
    confidence_drift: float | None = None
    diagnosis: str | None = None
    layers: tuple[LayerError, ...] = ()
    nodes_total: int | None = None
    nodes_taken: int | None = None

    def __bool__(self) -> bool:
        return self.passed

    @property
    def passed(self) -> bool:
        """Whether the verdict is "pass"."""
        return self.verdict == "pass"

    @property
    def accuracy_interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the candidate's accuracy; None without labels."""
        if self.candidate_accuracy is None:
            return None
        return wilson_interval(round(self.candidate_accuracy * self.num_samples), self.num_samples)

    def to_json(self) -> dict[str, Any]:
        """Return what a JSON file holds: the fields, and what is derived of them."""
        derived = {"accuracy_interval": self.accuracy_interval}
        return {**dataclasses.asdict(self), "passed": self.passed, "derived": derived}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ParityReport:
        """Return the report that a JSON file holds, one of schema 1 too."""
        if "verdict" not in facts:
            bounds = {"max_accuracy_drop": facts["tolerance"]}
            facts = {**facts, "verdict": "pass" if facts["passed"] else "fail", "bounds": bounds}
        names = {f.name for f in dataclasses.fields(cls)}
        known = {name: value for name, value in facts.items() if name in names}
        return cls(
            **{
                **known,
                "flips": tuple(Flip(**flip) for flip in facts["flips"]),
                "reasons": tuple(facts.get("reasons", ())),
                "bounds": Bounds(**facts["bounds"]),
                "per_class": tuple(ClassCount(**one) for one in facts.get("per_class", ())),
                "confusion": tuple(tuple(row) for row in facts.get("confusion", ())),
                "layers": tuple(layer_error(one) for one in facts.get("layers", ())),
            }
        )


def layer_error(facts: dict[str, Any]) -> LayerError:
    """Return the layer that JSON holds."""
    limits = facts["range"]
    return LayerError(**{**facts, "seen": tuple(facts["seen"]), "range": limits and tuple(limits)})


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a proportion.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22, 1927.
    """
    if trials == 0:
        return 0.0, 1.0
    z2 = 1.959963984540054**2
    share = successes / trials
    middle = share + z2 / (2 * trials)
    spread = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * trials)) / trials)
    low, high = ((middle + sign * spread) / (1 + z2 / trials) for sign in (-1, 1))
    # At the ends the formula gives exactly 0 or 1, but for the last bit.
    return (0.0 if successes == 0 else low), (1.0 if successes == trials else high)


@dataclass(frozen=True)
class Skipped:
    """A file on a target that did not run, and the reason."""

    target: str
    reason: str
    artifact: str | None = None


@dataclass(frozen=True)
class BenchRun:
    """Everything one run found out on one machine."""

    environment: Environment
    measurements: tuple[Measurement, ...] = ()
    parity: tuple[ParityReport, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    git_commit: str | None = None
    created_at: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec="seconds"
        )
    )
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def here(
        cls,
        measurements: tuple[Measurement, ...] = (),
        parity: tuple[ParityReport, ...] = (),
        skipped: tuple[Skipped, ...] = (),
    ) -> BenchRun:
        """Return a run of this machine, at this commit."""
        return cls(capture(), measurements, parity, skipped, git_commit=_git_commit())

    def to_json(self) -> dict[str, Any]:
        """Return the whole run as what JSON can hold."""
        return {
            "schema_version": self.schema_version,
            "created_at": self.created_at,
            "git_commit": self.git_commit,
            "environment": dataclasses.asdict(self.environment),
            "measurements": [one.to_json() for one in self.measurements],
            "parity": [one.to_json() for one in self.parity],
            "skipped": [dataclasses.asdict(one) for one in self.skipped],
        }

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> BenchRun:
        """Return the run that `to_json` wrote."""
        machine = facts["environment"]
        return cls(
            environment=Environment(**{**machine, "cpu_features": tuple(machine["cpu_features"])}),
            measurements=tuple(Measurement.from_json(one) for one in facts["measurements"]),
            parity=tuple(ParityReport.from_json(one) for one in facts["parity"]),
            skipped=tuple(Skipped(**one) for one in facts["skipped"]),
            git_commit=facts["git_commit"],
            created_at=facts["created_at"],
        )

    def save(self, path: Path) -> None:
        """Write the run as a JSON file, atomically."""
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> BenchRun:
        """Read a file that `save` wrote.

        Raises:
            DataError: it is missing, damaged, or of a newer schema.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts["schema_version"] > SCHEMA_VERSION:
                raise DataError(
                    f"{path} was written by a newer lenet-edge"
                    f" (schema {facts['schema_version']}); upgrade lenet-edge to read it"
                )
            return cls.from_json(facts)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise DataError(f"{path} is not a result file that can be read ({error})") from error


def _git_commit() -> str | None:
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
