"""Result files: JSON round trips, derived figures, old schemas and damaged files."""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lenet_edge.errors import DataError, LenetEdgeError
from lenet_edge.machine.conditions import Conditions
from lenet_edge.machine.environment import read_environment
from lenet_edge.results import result_file
from lenet_edge.results.cycle_count import CycleCount
from lenet_edge.results.parity_report import Bounds, ClassCount, Flip, LayerError, wilson_interval
from lenet_edge.results.result_file import (
    SCHEMA_VERSION,
    BenchRun,
    FleetRun,
    InstructionCount,
    LostBoard,
    Measurement,
    ParityReport,
    ProcessSamples,
    Skipped,
    load_runs,
)
from lenet_edge.target import Delegation

# Whole nanoseconds: the resolution of the clock and of the file.
LATENCIES = arrays(np.int64, st.integers(1, 1000), elements=st.integers(1, 2**32 - 1)).map(
    lambda nanoseconds: nanoseconds / 1e9
)
TEXT = st.text(max_size=20)
COUNT = st.integers(0, 2**40)
FLOAT = st.floats(0, 1e6)
CONDITIONS = st.builds(
    Conditions, frequency_mhz=st.none() | FLOAT, temperature_celsius=st.none() | FLOAT,
    load=st.none() | FLOAT, throttled=st.lists(TEXT, max_size=2),
    throttle_events=st.none() | COUNT, stolen_s=st.none() | FLOAT,
)  # fmt: skip
PROCESSES = st.builds(
    ProcessSamples, latencies_s=LATENCIES, load_time_s=FLOAT,
    first_inference_s=FLOAT, prepare_s=FLOAT,
    readout_s=FLOAT, warmup_runs=COUNT, peak_rss_bytes=COUNT, settled=st.booleans(),
    calls_per_sample=st.integers(1, 100), timer_s=st.none() | FLOAT, null_s=st.none() | FLOAT,
    rss_growth_bytes=st.none() | COUNT, preempted=st.none() | COUNT, energy_j=st.none() | FLOAT,
    seconds=st.none() | FLOAT, before=CONDITIONS, after=CONDITIONS,
)  # fmt: skip
DELEGATIONS = st.none() | st.builds(
    Delegation, TEXT, COUNT, COUNT, st.lists(TEXT, max_size=2).map(tuple), st.none() | COUNT,
    st.none() | COUNT, st.none() | TEXT, st.booleans(), st.none() | TEXT,
)  # fmt: skip
MEASUREMENTS = st.builds(
    Measurement, artifact=TEXT, artifact_sha256=TEXT, size_bytes=COUNT, target=TEXT,
    runtime_version=TEXT, batch_size=st.integers(1, 10_000), num_threads=COUNT,
    processes=st.lists(PROCESSES, min_size=1, max_size=3).map(tuple), delegation=DELEGATIONS,
    inputs=TEXT, arena_bytes=st.none() | COUNT, energy_covers=st.none() | TEXT,
    invalid=st.none() | TEXT, built_for=st.none() | TEXT,
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
    diagnosis=st.none() | TEXT, delegation=DELEGATIONS,
    layers=st.lists(
        st.builds(LayerError, TEXT, TEXT, st.none() | FLOAT, FLOAT, FLOAT, FLOAT,
                  st.none() | st.tuples(FLOAT, FLOAT), st.tuples(FLOAT, FLOAT), TEXT),
        max_size=2,
    ).map(tuple),
)  # fmt: skip
SIZES = st.none() | st.dictionaries(TEXT, COUNT, max_size=2)
CYCLES = st.builds(
    CycleCount.of_samples,
    st.text(), st.text(), st.text(), st.text(), st.none() | st.integers(1, 10**9),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
)  # fmt: skip
COUNTS = st.builds(
    InstructionCount, TEXT, TEXT, TEXT, TEXT, FLOAT, st.integers(1, 100), st.none() | TEXT,
    st.lists(TEXT, max_size=2).map(tuple), TEXT, SIZES, SIZES, st.none() | COUNT,
    st.none() | COUNT, inputs=TEXT,
)  # fmt: skip
RUNS = st.builds(
    BenchRun,
    environment=st.just(read_environment()),
    measurements=st.lists(MEASUREMENTS, max_size=2).map(tuple),
    parity=st.lists(REPORTS, max_size=2).map(tuple),
    skipped=st.lists(st.builds(Skipped, TEXT, TEXT, st.none() | TEXT), max_size=2).map(tuple),
    instruction_counts=st.lists(COUNTS, max_size=2).map(tuple),
    cycle_counts=st.lists(CYCLES, max_size=2).map(tuple),
    settings=st.dictionaries(TEXT, FLOAT | TEXT, max_size=2),
    remaining=COUNT,
    macs=st.dictionaries(TEXT, COUNT, max_size=2),
    peak_macs_per_s=st.dictionaries(st.integers(1, 256), FLOAT, max_size=2),
    git_commit=st.none() | TEXT,
)


def plain(run: BenchRun) -> dict[str, Any]:
    """Return a run as dictionaries and lists, which == can compare."""
    facts = dataclasses.asdict(run)
    for measured in facts["measurements"]:
        for process in measured["processes"]:
            process["latencies_s"] = process["latencies_s"].tolist()
    return facts


@pytest.mark.costly
@given(RUNS)
def test_a_run_comes_back_from_its_json(run: BenchRun) -> None:
    text = json.dumps(run.to_json(), allow_nan=False)
    assert plain(BenchRun.from_json(json.loads(text))) == plain(run)


def test_a_run_comes_back_from_its_file(tmp_path: Path) -> None:
    run = BenchRun.of_this_machine(skipped=(Skipped("t", "é\n", None),))
    run.save(tmp_path / "run.json")
    assert BenchRun.load(tmp_path / "run.json") == run
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def measurement(latencies: npt.NDArray[np.float64]) -> Measurement:
    return Measurement("a", "b", 1, "t", "1", 8, 1, (ProcessSamples(latencies, 1, 1, 1, 1, 3, 1),))


@given(LATENCIES)
def test_percentiles_equal_those_of_numpy(latencies: npt.NDArray[np.float64]) -> None:
    measured = measurement(latencies)
    ordered = np.sort(latencies)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    assert measured.p50_s == pytest.approx(middle.mean())
    assert measured.images_per_s == pytest.approx(8 / latencies.mean())
    for percent, percentile_s, needed in ((90, measured.p90_s, 64), (99, measured.p99_s, 662)):
        if len(latencies) < needed:
            assert percentile_s is None
        else:
            assert percentile_s == np.percentile(latencies, percent)
    low, high = measured.p50_interval_s
    assert latencies.min() <= low <= measured.p50_s <= high <= latencies.max()


@pytest.mark.parametrize(
    ("count", "p90", "p99"), [(63, 0, 0), (64, 1, 0), (661, 1, 0), (662, 1, 1)]
)
def test_percentiles_need_enough_samples(count: int, p90: bool, p99: bool) -> None:
    measured = measurement(np.linspace(0.001, 0.002, count))
    derived = measured.to_json()["derived"]
    assert (measured.p90_s is not None) == (derived["p90_s"] is not None) == p90
    assert (measured.p99_s is not None) == (derived["p99_s"] is not None) == p99


def test_means_of_several_calls_have_no_percentiles() -> None:
    """The mean of 50 calls hides a slow call."""
    every_call = measurement(np.full(1000, 1e-6))
    process = dataclasses.replace(every_call.processes[0], calls_per_sample=50)
    means = dataclasses.replace(every_call, processes=(process,))
    assert (means.p90_s, means.p99_s, means.p50_s) == (None, None, 1e-6)


def test_processes_that_disagree_widen_the_interval() -> None:
    first, second = measurement(np.full(1000, 1e-5)), measurement(np.full(1000, 1.07e-5))
    both = dataclasses.replace(first, processes=(*first.processes, *second.processes))
    assert first.p50_interval_s == (1e-5, 1e-5)
    low, high = both.p50_interval_s
    assert low < 1e-5 < 1.07e-5 < high
    assert "the medians of the processes range from 10.0 to 10.7 µs" in both.instability


def test_a_stall_in_one_process_does_not_ruin_the_throughput() -> None:
    """One call of 8 ms among 220 of 18 µs triples the mean of its process."""
    steady = measurement(np.full(221, 18e-6))
    stalled = measurement(np.append(np.full(220, 18e-6), 8e-3))
    processes = (*steady.processes, *stalled.processes, *steady.processes)
    both = dataclasses.replace(steady, processes=processes)
    expected = both.batch_size / 18e-6
    assert both.images_per_s == pytest.approx(expected)
    low, high = both.images_per_s_interval
    assert 0.95 < low / expected < 1 < high / expected < 1.05
    often = measurement(np.where(np.arange(221) % 20, 18e-6, 180e-6))  # these calls count
    assert often.images_per_s < 0.7 * expected


def test_derived_figures_in_a_file_are_ignored() -> None:
    facts = measurement(np.full(700, 0.001)).to_json()
    facts["derived"] = dict.fromkeys(facts["derived"], 99.0)
    assert Measurement.from_json(facts).p50_s == pytest.approx(0.001)


def save_run(tmp_path: Path) -> Path:
    run = BenchRun.of_this_machine((measurement(np.full(3, 0.001)),))
    count = InstructionCount("a.c", "b", "cortex-m4", "cortex-m4", 198_619.0, 10)
    cycles = CycleCount.of_samples("a.c", "b", "serial:/dev/x", "cycles", None, [3, 4])
    run = dataclasses.replace(run, instruction_counts=(count,), cycle_counts=(cycles,))
    run.save(tmp_path / "run.json")
    return tmp_path / "run.json"


def spoil(path: Path, *keys: str | int, value: Any = None) -> None:
    facts = json.loads(path.read_text())
    inner = facts
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(facts))


def test_a_newer_schema_is_refused_with_advice(tmp_path: Path) -> None:
    path = save_run(tmp_path)
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
        (("measurements", 0, "trials", 0, "latencies_s", "data"), "AAAA"),
        (("measurements", 0, "trials", 0, "latencies_s", "data"), "not base64!"),
        (("measurements", 0, "trials"), None),
        (("measurements",), 5),
        (("environment",), []),
        (("environment", "unknown"), 1),
        (("parity",), [{}]),
        (("skipped",), [3]),
        (("instruction_counts",), [{}]),
        (("cycle_counts", 0, "median"), -1),
        (("cycle_counts", 0, "counter_hz"), "fast"),
        (("cycle_counts", 0, "images"), 0),
        (("instruction_counts", 0, "instructions"), "many"),
        (("instruction_counts", 0, "images"), 0),
        (("instruction_counts", 0, "stack_bytes"), -1),
        (("instruction_counts", 0, "layers"), {"conv": None}),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, keys: tuple[str, ...], value: Any) -> None:
    path = save_run(tmp_path)
    spoil(path, *keys, value=value)
    with pytest.raises(DataError, match=r"run\.json is not a result file"):
        BenchRun.load(path)


def test_files_that_cannot_be_read_or_written_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        BenchRun.load(tmp_path / "none.json")
    with pytest.raises(DataError, match="Is a directory"):
        BenchRun.load(tmp_path)
    save_run(tmp_path)
    with pytest.raises(LenetEdgeError, match="cannot write"):
        BenchRun.of_this_machine().save(tmp_path / "run.json" / "below.json")


GOLDEN = sorted(Path(__file__).parents[1].glob("golden/*.json"))
RECORDED = [
    path
    for path in sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*/2*.json"))
    if "measurements" in json.loads(path.read_text())
]


def test_a_golden_file_of_each_schema_exists() -> None:
    versions = [json.loads(path.read_text())["schema_version"] for path in GOLDEN]
    assert versions == list(range(1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("path", [*GOLDEN, *RECORDED], ids=lambda path: path.name)
def test_files_of_every_schema_still_load(path: Path, tmp_path: Path) -> None:
    facts = json.loads(path.read_text())
    run = BenchRun.load(path)
    assert len(run.measurements) == len(facts["measurements"]) > 0
    for measured, saved in zip(run.measurements, facts["measurements"], strict=True):
        # Before schema 6, the mean was that of all processes, disturbed ones included.
        whole = float(measured.latencies_s.mean())
        mean = measured.mean_s if facts["schema_version"] >= 6 else whole
        assert mean == pytest.approx(saved["derived"]["mean_s"])
        assert 0 < measured.p50_s <= 1.05 * saved["derived"]["p50_s"]
        assert len(measured.latencies_s) == saved["derived"]["num_runs"]
        processes = saved.get("trials", [saved])
        assert [process.load_time_s for process in measured.processes] == [
            process["load_time_s"] for process in processes
        ]
    run.save(tmp_path / "again.json")
    again = BenchRun.load(tmp_path / "again.json")
    assert plain(again) == plain(run)
    assert json.loads((tmp_path / "again.json").read_text())["schema_version"] == SCHEMA_VERSION


def test_parity_of_schema_1_still_loads(tmp_path: Path) -> None:
    facts = BenchRun.of_this_machine().to_json()
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


def test_a_fleet_run_is_one_file_with_a_run_for_each_board(tmp_path: Path) -> None:
    runs = [dataclasses.replace(BenchRun.of_this_machine(), board=name) for name in ("a", "b")]
    fleet = FleetRun(tuple(runs), (LostBoard("c", "its worker disconnected"),))
    fleet.save(tmp_path / "fleet.json")
    assert json.loads((tmp_path / "fleet.json").read_text()) == json.loads(
        json.dumps(fleet.to_json())
    )
    assert load_runs(tmp_path / "fleet.json") == tuple(runs)
    with pytest.raises(DataError, match=r"holds the runs of 2 boards.*lenet-edge report reads all"):
        BenchRun.load(tmp_path / "fleet.json")
    FleetRun(tuple(runs[:1])).save(tmp_path / "one.json")
    assert BenchRun.load(tmp_path / "one.json") == runs[0]
    for indent in (None, 1):  # as other tools indent it
        (tmp_path / "other.json").write_text(json.dumps(fleet.to_json(), indent=indent))
        assert load_runs(tmp_path / "other.json") == tuple(runs)


def test_the_size_limit_of_a_fleet_file_holds_for_each_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = tmp_path / "fleet.json", BenchRun.of_this_machine()
    FleetRun((run,) * 9).save(path)
    lines = path.read_bytes().splitlines(keepends=True)
    monkeypatch.setattr(result_file, "_MAX_BYTES", len(lines[2]))
    assert load_runs(path) == (run,) * 9
    monkeypatch.setattr(result_file, "_MAX_BYTES", len(lines[2]) - 1)
    with pytest.raises(DataError, match="bytes for one machine, so it is not a result file"):
        load_runs(path)


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_truncated_fleet_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "fleet.json"
    FleetRun((BenchRun.of_this_machine(),) * 2).save(path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-cut]))
    with pytest.raises(DataError, match="is not a result file, or it is damaged"):
        load_runs(path)


def test_samples_that_unpack_to_gigabytes_are_refused(tmp_path: Path) -> None:
    facts = json.loads(GOLDEN[-1].read_text())
    bomb = base64.b64encode(zlib.compress(bytes(2**25))).decode()
    facts["measurements"][0]["trials"][0]["latencies_s"]["data"] = bomb
    (tmp_path / "bomb.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="a process has no samples, or over"):
        BenchRun.load(tmp_path / "bomb.json")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("measurements", "batch_size", 0), ("measurements", "trials", []),
        ("measurements", "target", 7), ("parity", "top1_agreement", 3.5),
        ("parity", "flips", "none"), ("parity", "num_samples", -1),
    ],
)  # fmt: skip
def test_impossible_figures_are_refused(
    tmp_path: Path, kind: str, name: str, value: object
) -> None:
    facts = next(
        facts for facts in (json.loads(path.read_text()) for path in GOLDEN[1:]) if facts[kind]
    )
    facts[kind][0][name] = value
    (tmp_path / "strange.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="is not a result file, or it is damaged"):
        BenchRun.load(tmp_path / "strange.json")


def test_a_negative_precision_is_refused(tmp_path: Path) -> None:
    facts = json.loads(GOLDEN[-1].read_text())
    facts["settings"]["precision"] = -1
    (tmp_path / "strange.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="the precision of the samples is -1"):
        BenchRun.load(tmp_path / "strange.json")
