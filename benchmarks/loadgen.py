"""The figures of `bench --scenario` beside those of MLPerf's LoadGen: ``-m benchmarks.loadgen``

LoadGen drives one session in each scenario. The time of each of its queries is also recorded here.
The figures of both must agree, apart from the time that LoadGen itself takes between a query and
its answer. `bench` then samples the same session.

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

FILE, TARGET = "lenet_int8.tflite", "litert-reference"  # slow kernels: LoadGen's own time is small
SECONDS = 3.0
OFFLINE_BATCH = 32
_NAMES = {"single-stream": "SingleStream", "multi-stream": "MultiStream", "offline": "Offline"}


def measure(seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Return for each scenario the figure of LoadGen, of its queries, and of `bench`."""
    rows = []
    artifact, target = load_artifact(ROOT / "exported" / FILE), get_target(TARGET)
    for name, scenario in SCENARIOS.items():
        batches = make_batches(artifact, batch_size(scenario))
        with closing(open_session(artifact, target, 1)) as session:
            session.prepare(batches[0])
            warm_up(session, batches)
            written, queries = drive(session, batches, name, seconds)
            sampled = take_samples(session, batches, 1, StopRule(seconds, seconds, 0, 64))
        rows.append({
            "scenario": name, "queries": len(queries), "loadgen_s": written,
            "queries_s": figure(queries, scenario), "bench_s": figure(sampled[:, 1], scenario),
        })  # fmt: skip
    return rows


def batch_size(scenario: Scenario) -> int:
    return scenario.batch_sizes[0] if scenario.quantile else OFFLINE_BATCH


def figure(seconds: npt.NDArray[np.float64], scenario: Scenario) -> float:
    """Return the percentile of a scenario; offline, the mean time of an image."""
    if scenario.quantile is None:
        return float(np.mean(seconds)) / OFFLINE_BATCH
    return float(np.quantile(seconds, scenario.quantile))


def drive(
    session: Session, batches: Sequence[InputValues], name: str, seconds: float
) -> tuple[float, npt.NDArray[np.float64]]:
    """Let LoadGen query a session; return the figure that it writes, and the seconds of each call.

    Args:
        session: the session.
        batches: the inputs, used in turn.
        name: the name of the scenario.
        seconds: the time that LoadGen takes at least.
    """
    import mlperf_loadgen as loadgen

    scenario, calls = SCENARIOS[name], array("d")
    size = batch_size(scenario)

    def answer(samples: list[Any]) -> None:
        for start in range(0, len(samples), size):
            session.prepare(batches[len(calls) % len(batches)])
            begin = time.perf_counter()
            session.infer()
            calls.append(time.perf_counter() - begin)
            answered = samples[start : start + size]
            replies = [loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in answered]
            loadgen.QuerySamplesComplete(replies)

    settings, log = loadgen.TestSettings(), loadgen.LogSettings()
    settings.scenario = getattr(loadgen.TestScenario, _NAMES[name])
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms, settings.min_query_count = int(seconds * 1000), 64
    settings.multi_stream_samples_per_query = size
    settings.offline_expected_qps = 1000
    with temporary_folder() as folder:
        log.log_output.outdir = str(folder)
        system = loadgen.ConstructSUT(answer, lambda: None)
        library = loadgen.ConstructQSL(1024, 1024, lambda samples: None, lambda samples: None)
        loadgen.StartTestWithLogSettings(system, library, settings, log, "")
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
        summary = (folder / "mlperf_log_summary.txt").read_text()
    if scenario.quantile is None:
        (rate,) = re.findall(r"^Samples per second: ([\d.]+)", summary, re.MULTILINE)
        return 1 / float(rate), np.array(calls)
    percentile = re.escape(f"{100 * scenario.quantile:.2f} percentile latency (ns)")
    (nanoseconds,) = re.findall(rf"^{percentile}\s*: (\d+)", summary, re.MULTILINE)
    return int(nanoseconds) / 1e9, np.array(calls)


def main() -> None:
    rows = measure()
    print(f"{FILE} on {TARGET}, microseconds; offline: of one image")
    for row in rows:
        loadgen, queries, bench = (1e6 * row[f"{of}_s"] for of in ("loadgen", "queries", "bench"))
        print(
            f"  {row['scenario']:14} LoadGen {loadgen:8.1f}, its queries {queries:8.1f}"
            f" ({loadgen / queries:.3f}), bench {bench:8.1f} ({loadgen / bench:.3f})"
        )
    path = keep("loadgen", {"file": FILE, "target": TARGET, "scenarios": rows})
    print(f"Kept in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
