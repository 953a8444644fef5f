"""What a stage found out, as plain data, and the JSON file that holds it.

    BenchRun                one run of `verify`, `bench` or both, on one machine
    ├── Environment         the machine
    ├── Measurement *       latencies of one file on one target at one batch size
    ├── ParityReport *      is one file on one target still right?
    └── Skipped *           what did not run, and why

Schema versions: 1 (2026-11).
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
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

SCHEMA_VERSION = 1
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
    """A test image whose predicted class the candidate changed."""

    index: int
    label: int
    was: int
    now: int


@dataclass(frozen=True)
class ParityReport:
    """Whether a file on a target still answers as the float model does.

    Accuracies and agreement are fractions of `num_samples`; `accuracy_drop` is in percentage
    points, positive where the candidate is worse, and `tolerance` is the largest that passes.
    Errors are in units of the logits; `non_finite` counts images answered with NaN or infinity.
    """

    reference: str
    candidate: str
    candidate_sha256: str
    target: str
    num_samples: int
    reference_accuracy: float
    candidate_accuracy: float
    accuracy_drop: float
    top1_agreement: float
    flips: tuple[Flip, ...]
    mcnemar_p: float
    max_abs_error: float
    mean_abs_error: float
    non_finite: int
    tolerance: float
    passed: bool

    def __bool__(self) -> bool:
        return self.passed

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ParityReport:
        """Return the report that a JSON file holds."""
        return cls(**{**facts, "flips": tuple(Flip(**flip) for flip in facts["flips"])})


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
            "parity": [dataclasses.asdict(one) for one in self.parity],
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
