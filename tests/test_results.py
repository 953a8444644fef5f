"""Results survive their JSON file, and say no more than the samples do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lenet_edge.environment import capture
from lenet_edge.errors import DataError, LenetEdgeError
from lenet_edge.results import (
    SCHEMA_VERSION,
    BenchRun,
    Bounds,
    ClassCount,
    Flip,
    LayerError,
    Measurement,
    ParityReport,
    Skipped,
    median_interval,
    wilson_interval,
)

# Whole nanoseconds, which is what the clock gives and the file keeps.
LATENCIES = arrays(np.int64, st.integers(1, 1000), elements=st.integers(1, 2**32 - 1)).map(
    lambda nanoseconds: nanoseconds / 1e9
)
TEXT = st.text(max_size=20)
COUNT = st.integers(0, 2**40)
FLOAT = st.floats(0, 1e6)
MEASUREMENTS = st.builds(
    Measurement, artifact=TEXT, artifact_sha256=TEXT, size_bytes=COUNT, target=TEXT,
    runtime_version=TEXT, batch_size=st.integers(1, 10_000), num_threads=COUNT, load_time_s=FLOAT,
    first_inference_s=FLOAT, prepare_s=FLOAT, readout_s=FLOAT, warmup_runs=COUNT,
    latencies_s=LATENCIES, peak_rss_bytes=COUNT, delegate=st.none() | TEXT,
    nodes_total=st.none() | COUNT, nodes_taken=st.none() | COUNT, invalid=st.none() | TEXT,
)  # fmt: skip
FLIPS = st.lists(st.builds(Flip, COUNT, COUNT, COUNT, st.integers(-1, 9)), max_size=3).map(tuple)
REPORTS = st.builds(
    ParityReport, reference=TEXT, candidate=TEXT, candidate_sha256=TEXT, target=TEXT,
    num_samples=COUNT, reference_accuracy=FLOAT, candidate_accuracy=st.none() | st.floats(0, 1),
    accuracy_drop=FLOAT,
    top1_agreement=FLOAT, flips=FLIPS, mcnemar_p=FLOAT, max_abs_error=FLOAT, mean_abs_error=FLOAT,
    non_finite=COUNT, verdict=st.sampled_from(["pass", "fail", "inconclusive"]),
    reasons=st.lists(TEXT, max_size=2).map(tuple),
    bounds=st.builds(Bounds, FLOAT, st.none() | FLOAT, st.none() | FLOAT),
    per_class=st.lists(st.builds(ClassCount, TEXT, COUNT, COUNT, COUNT), max_size=2).map(tuple),
    confusion=st.lists(st.tuples(COUNT, COUNT), max_size=2).map(tuple),
    diagnosis=st.none() | TEXT,
    layers=st.lists(
        st.builds(LayerError, TEXT, TEXT, st.none() | FLOAT, FLOAT, FLOAT, FLOAT,
                  st.none() | st.tuples(FLOAT, FLOAT), st.tuples(FLOAT, FLOAT), TEXT),
        max_size=2,
    ).map(tuple),
)  # fmt: skip
RUNS = st.builds(
    BenchRun,
    environment=st.just(capture()),
    measurements=st.lists(MEASUREMENTS, max_size=2).map(tuple),
    parity=st.lists(REPORTS, max_size=2).map(tuple),
    skipped=st.lists(st.builds(Skipped, TEXT, TEXT, st.none() | TEXT), max_size=2).map(tuple),
    git_commit=st.none() | TEXT,
)


def plain(run: BenchRun) -> dict[str, Any]:
    """Return a run as what == can compare: arrays are lists."""
    facts = dataclasses.asdict(run)
    for one in facts["measurements"]:
        one["latencies_s"] = one["latencies_s"].tolist()
    return facts


@given(RUNS)
def test_a_run_comes_back_from_its_json(run: BenchRun) -> None:
    text = json.dumps(run.to_json(), allow_nan=False)
    assert plain(BenchRun.from_json(json.loads(text))) == plain(run)


def test_a_run_comes_back_from_its_file(tmp_path: Path) -> None:
    run = BenchRun.here(skipped=(Skipped("t", "é\n", None),))
    run.save(tmp_path / "run.json")
    assert BenchRun.load(tmp_path / "run.json") == run
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def measurement(latencies: npt.NDArray[np.float64]) -> Measurement:
    return Measurement("a", "b", 1, "t", "1", 8, 1, 1, 1, 1, 1, 3, latencies, 1)


@given(LATENCIES)
def test_percentiles_are_numpys(latencies: npt.NDArray[np.float64]) -> None:
    one = measurement(latencies)
    ordered = np.sort(latencies)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    assert one.p50_s == pytest.approx(middle.mean())
    assert one.images_per_s == pytest.approx(8 / one.p50_s)
    for percent, found, needed in ((90, one.p90_s, 64), (99, one.p99_s, 662)):
        if len(latencies) < needed:
            assert found is None
        else:
            assert found == np.percentile(latencies, percent)
    low, high = one.p50_interval_s
    assert latencies.min() <= low <= one.p50_s <= high <= latencies.max()


@pytest.mark.parametrize(
    ("count", "p90", "p99"), [(63, 0, 0), (64, 1, 0), (661, 1, 0), (662, 1, 1)]
)
def test_percentiles_need_enough_samples(count: int, p90: bool, p99: bool) -> None:
    one = measurement(np.linspace(0.001, 0.002, count))
    derived = one.to_json()["derived"]
    assert (one.p90_s is not None) == (derived["p90_s"] is not None) == p90
    assert (one.p99_s is not None) == (derived["p99_s"] is not None) == p99


def test_the_interval_of_the_median_covers_it_as_often_as_it_says() -> None:
    """Of 2,000 samples from a skewed distribution whose median is known."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        low, high = median_interval(random.exponential(size=101))
        covered += low <= np.log(2) <= high
    assert 0.94 <= covered / 2000 <= 0.98


def test_what_is_derived_is_never_believed() -> None:
    facts = measurement(np.full(700, 0.001)).to_json()
    facts["derived"] = dict.fromkeys(facts["derived"], 99.0)
    assert Measurement.from_json(facts).p50_s == pytest.approx(0.001)


def saved(tmp_path: Path) -> Path:
    BenchRun.here((measurement(np.full(3, 0.001)),)).save(tmp_path / "run.json")
    return tmp_path / "run.json"


def spoil(path: Path, *keys: str | int, value: Any = None) -> None:
    facts = json.loads(path.read_text())
    inner = facts
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(facts))


def test_a_newer_schema_says_so(tmp_path: Path) -> None:
    path = saved(tmp_path)
    spoil(path, "schema_version", value=SCHEMA_VERSION + 1)
    with pytest.raises(DataError, match=r"newer lenet-edge.*upgrade"):
        BenchRun.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"null", b"3", b'"x"', b"\xff\xfe", b'{"schema_version": 1}',
                b'{"schema_version": "new"}', b'{"benchmarks": []}'],
)  # fmt: skip
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"run\.json is not a result file"):
        BenchRun.load(path)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("measurements", 0, "latencies_s", "data"), "AAAA"),
        (("measurements", 0, "latencies_s", "data"), "not base64!"),
        (("measurements", 0, "latencies_s"), None),
        (("measurements",), 5),
        (("environment",), []),
        (("environment", "unknown"), 1),
        (("parity",), [{}]),
        (("skipped",), [3]),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, keys: tuple[str, ...], value: Any) -> None:
    path = saved(tmp_path)
    spoil(path, *keys, value=value)
    with pytest.raises(DataError, match=r"run\.json is not a result file"):
        BenchRun.load(path)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        BenchRun.load(tmp_path / "none.json")
    with pytest.raises(DataError, match="Is a directory"):
        BenchRun.load(tmp_path)
    saved(tmp_path)
    with pytest.raises(LenetEdgeError, match="cannot write"):
        BenchRun.here().save(tmp_path / "run.json" / "below.json")


def test_parity_of_schema_1_is_still_read(tmp_path: Path) -> None:
    facts = BenchRun.here().to_json()
    old = {
        "reference": "r", "candidate": "c", "candidate_sha256": "s", "target": "t",
        "num_samples": 100, "reference_accuracy": 0.9, "candidate_accuracy": 0.8,
        "accuracy_drop": 10.0, "top1_agreement": 0.9, "mcnemar_p": 0.5, "max_abs_error": 1.0,
        "flips": [{"index": 3, "label": 1, "was": 1, "now": 2}], "mean_abs_error": 0.1,
        "non_finite": 0, "tolerance": 0.1, "passed": False,
    }  # fmt: skip
    facts.update(schema_version=1, parity=[old])
    (tmp_path / "old.json").write_text(json.dumps(facts))
    (report,) = BenchRun.load(tmp_path / "old.json").parity
    assert (report.verdict, report.bounds) == ("fail", Bounds(max_accuracy_drop=0.1))
    assert report.flips == (Flip(3, 1, 1, 2),)
    assert report.accuracy_interval == wilson_interval(80, 100)
