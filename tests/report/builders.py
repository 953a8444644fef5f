"""Measurements and parity reports with plausible figures, for the tests of several packages."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.results.measurement import Measurement
from lenet_edge.results.parity_report import ParityReport
from lenet_edge.results.process_samples import ProcessSamples


def measurement(artifact: str, p50_us: float, size_bytes: int, batch_size: int = 1) -> Measurement:
    # 1,000 samples within 1 % of the median: an interval of about 0.06 %.
    spread = np.linspace(0.99, 1.01, 1000)
    return Measurement(
        artifact=artifact, artifact_sha256=artifact, size_bytes=size_bytes, target="litert-xnnpack",
        runtime_version="1", batch_size=batch_size, num_threads=1,
        processes=(process_samples(p50_us * 1e-6 * spread),),
    )  # fmt: skip


def process_samples(latencies_s: npt.NDArray[np.float64], **fields: Any) -> ProcessSamples:
    defaults = {"load_time_s": 0.01, "first_inference_s": 0.001, "prepare_s": 1e-6,
                "readout_s": 1e-6, "warmup_runs": 3, "peak_rss_bytes": 1}  # fmt: skip
    return ProcessSamples(latencies_s, **{**defaults, **fields})


def parity_report(artifact: str, passed: bool = True, drop: float = 0.0) -> ParityReport:
    return ParityReport(
        reference="checkpoint", candidate=artifact, candidate_sha256=artifact,
        target="litert-xnnpack", num_samples=10_000, reference_accuracy=0.99,
        candidate_accuracy=0.99 - drop / 100, accuracy_drop=drop, top1_agreement=1.0, flips=(),
        mcnemar_p=1.0, max_abs_error=0.0, mean_abs_error=0.0, non_finite=0,
        verdict="pass" if passed else "fail",
        reasons=() if passed else (f"it loses {drop:.2f} points of accuracy",),
    )  # fmt: skip
