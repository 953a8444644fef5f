"""The figures of `bench --scenario` beside those of MLPerf's LoadGen: ``-m benchmarks.loadgen``

LoadGen drives a session in each scenario, and each call of the session is timed here too. LoadGen's
figure and that of the calls must agree, apart from the time that LoadGen itself takes between a
query and its response. `bench` then samples the same session.

Source: MLCommons, `mlcommons-loadgen`, the summary that it writes. It is in the extra `test`.
"""

from __future__ import annotations

import re
import time
from array import array
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.record import ROOT, keep
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.bench.sampling import StopRule, take_samples, warm_up
from lenet_edge.bench.timing import make_batches
from lenet_edge.report.rank import SCENARIOS, Scenario
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import InputValues, Session

# The reference kernels are slow, so LoadGen's own time is a small part of a query.
FILE, TARGET = "lenet_int8.tflite", "litert-reference"
SECONDS = 3.0
OFFLINE_BATCH = 32  # images in a call; LoadGen sends all images in one query
_NAMES = {"single-stream": "SingleStream", "multi-stream": "MultiStream", "offline": "Offline"}


def measure(seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Return the figures of LoadGen, of the calls it made, and of `bench`, for each scenario."""
    rows = []
    artifact, target = load_artifact(ROOT / "exported" / FILE), get_target(TARGET)
    for name, scenario in SCENARIOS.items():
        batches = make_batches(artifact, batch_size(scenario))
        with closing(open_session(artifact, target, 1)) as session:
            session.prepare(batches[0])
            warm_up(session, batches)
            loadgen_s, calls_s = drive(session, batches, name, seconds)
            samples = take_samples(session, batches, 1, StopRule(seconds, seconds))
        rows.append({
            "scenario": name, "queries": len(calls_s), "loadgen_s": loadgen_s,
            "queries_s": figure(calls_s, scenario), "bench_s": figure(samples[:, 1], scenario),
        })  # fmt: skip
    return rows


def batch_size(scenario: Scenario) -> int:
    return OFFLINE_BATCH if scenario.quantile is None else scenario.batch_sizes[0]


def figure(calls_s: npt.NDArray[np.float64], scenario: Scenario) -> float:
    """Return the percentile of a scenario; offline, the mean time of an image."""
    if scenario.quantile is None:
        return float(np.mean(calls_s)) / OFFLINE_BATCH
    return float(np.quantile(calls_s, scenario.quantile))


def drive(
    session: Session, batches: Sequence[InputValues], name: str, seconds: float
) -> tuple[float, npt.NDArray[np.float64]]:
    """Let LoadGen query a session; return the figure of its summary, and the seconds of each call.

    Args:
        session: the session.
        batches: the inputs, used in turn.
        name: the name of the scenario.
        seconds: the minimum duration of LoadGen's test.
    """
    import mlperf_loadgen as loadgen

    scenario, calls_s = SCENARIOS[name], array("d")
    size = batch_size(scenario)

    def respond(samples: list[Any]) -> None:
        for start in range(0, len(samples), size):
            session.prepare(batches[len(calls_s) % len(batches)])
            begin = time.perf_counter()
            session.infer()
            calls_s.append(time.perf_counter() - begin)
            batch = samples[start : start + size]
            responses = [loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in batch]
            loadgen.QuerySamplesComplete(responses)

    settings, log = loadgen.TestSettings(), loadgen.LogSettings()
    settings.scenario = getattr(loadgen.TestScenario, _NAMES[name])
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms, settings.min_query_count = int(seconds * 1000), 64
    settings.multi_stream_samples_per_query = size
    settings.offline_expected_qps = 1000
    with temporary_folder() as folder:
        log.log_output.outdir = str(folder)
        system = loadgen.ConstructSUT(respond, lambda: None)
        library = loadgen.ConstructQSL(1024, 1024, lambda samples: None, lambda samples: None)
        loadgen.StartTestWithLogSettings(system, library, settings, log, "")
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
        summary = (folder / "mlperf_log_summary.txt").read_text()
    if scenario.quantile is None:
        (rate,) = re.findall(r"^Samples per second: ([\d.]+)", summary, re.MULTILINE)
        return 1 / float(rate), np.array(calls_s)
    percentile = re.escape(f"{100 * scenario.quantile:.2f} percentile latency (ns)")
    (nanoseconds,) = re.findall(rf"^{percentile}\s*: (\d+)", summary, re.MULTILINE)
    return int(nanoseconds) / 1e9, np.array(calls_s)


def main() -> None:
    rows = measure()
    print(f"{FILE} on {TARGET}, microseconds; offline: of one image")
    for row in rows:
        loadgen, queries, bench = (1e6 * row[f"{key}_s"] for key in ("loadgen", "queries", "bench"))
        print(
            f"  {row['scenario']:14} LoadGen {loadgen:8.1f}, its queries {queries:8.1f}"
            f" ({loadgen / queries:.3f}), bench {bench:8.1f} ({loadgen / bench:.3f})"
        )
    path = keep("loadgen", {"file": FILE, "target": TARGET, "scenarios": rows})
    print(f"Kept in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
