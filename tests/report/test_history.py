"""Histories: the rule for change points, series from result files, and the command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.report.history import HistoryPoint, find_exact_changes, find_noisy_changes
from lenet_edge.results.result_file import BenchRun, InstructionCount
from tests.conftest import LenetEdge
from tests.report.builders import measurement, parity_report

Values = npt.NDArray[np.float64]


def points(values: list[float] | Values, half_width: float = 0.01) -> list[HistoryPoint]:
    return [
        HistoryPoint("", f"{n:07d}", False, value, half_width) for n, value in enumerate(values)
    ]


def noisy(rng: np.random.Generator, *parts: tuple[int, float]) -> Values:
    """Return parts of a level with noise of 1 %; one value in ten is disturbed by up to 30 %."""
    values: Values = np.concatenate([np.full(count, level) for count, level in parts])
    values *= np.exp(rng.normal(0, 0.01, len(values)))
    disturbed = rng.random(len(values)) < 0.1
    values[disturbed] *= 1 + 0.3 * rng.random(disturbed.sum())
    return values


def confirmed(values: Values) -> list[int]:
    return [change.index for change in find_noisy_changes(points(values)) if change.is_confirmed]


def is_near(found: list[int], place: int) -> bool:
    return any(abs(each - place) <= 1 for each in found)


def test_steps_are_found_at_their_place_and_noise_is_no_step() -> None:
    rng = np.random.default_rng(0)
    quiet = [confirmed(noisy(rng, (24, 1e-5))) for _ in range(200)]
    # Two neighbours that are both disturbed look like a step.
    assert sum(map(bool, quiet)) <= 16
    places = [confirmed(noisy(rng, (12, 1e-5), (12, 1.1e-5))) for _ in range(200)]
    assert sum(is_near(found, 12) for found in places) >= 180
    twice = [confirmed(noisy(rng, (8, 1e-5), (8, 1.3e-5), (8, 1e-5))) for _ in range(200)]
    assert sum(is_near(found, 8) and is_near(found, 16) for found in twice) >= 180


def test_a_step_in_the_newest_point_is_not_confirmed_and_a_single_outlier_is_none() -> None:
    level = [1.0, 1.01, 0.99, 1.0, 1.01]
    (change,) = find_noisy_changes(points([*level, 1.3]))
    assert (change.index, change.is_confirmed) == (5, False)
    assert find_noisy_changes(points([*level, 1.3, *level])) == []
    (change,) = find_noisy_changes(points([*level, 1.3, 1.31]))
    assert (change.index, change.is_confirmed) == (5, True)
    assert change.ratio == pytest.approx(1.305, abs=0.01)
    assert find_noisy_changes(points([1.0])) == find_noisy_changes(points([])) == []


def test_a_wide_interval_hides_a_step() -> None:
    step = [1.0, 1.01, 0.99, 1.0, 1.1, 1.11, 1.09, 1.1]
    assert len(find_noisy_changes(points(step))) == 1
    assert find_noisy_changes(points(step, half_width=0.05)) == []


def test_every_change_of_an_exact_figure_is_a_change_point() -> None:
    changes = find_exact_changes(points([100, 100, 101, 101, 100]))
    assert [(change.index, change.after) for change in changes] == [(2, 101), (4, 100)]


def saved(folder: Path, number: int, p50_us: float, instructions: float) -> None:
    count = InstructionCount("a.c", "0", "native-cpu", "x86-64", instructions, 10, "gcc")
    run = dataclasses.replace(
        BenchRun.of_this_machine(
            (measurement("a.tflite", p50_us, 100),), (parity_report("a.tflite"),)
        ),
        instruction_counts=(count,), git_commit=f"{number:012x}", git_dirty=False,
        created_at=f"2026-11-{number + 1:02d}T00:00:00+00:00",
    )  # fmt: skip
    run.save(folder / f"{number}.json")


def test_the_command(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "deep"
    folder.mkdir(parents=True)
    for number in range(8):
        saved(folder, number, 10 if number < 4 else 14, 1000 if number < 6 else 1001)
    (folder / "other.json").write_text("{}")
    done = lenet_edge_here("history", "results", "--json", "h.json", "--plot", "h.svg")
    assert done.returncode == 0, done.stderr
    assert "Left out 1 file" in done.stderr
    for line in ("latency ×1.4 from 0000000 on", "instructions +0.10% from 0000000 on"):
        assert line in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    listed = json.loads((tmp_path / "h.json").read_text())
    series = {(each["place"], each["metric"]): each for each in listed}
    (slower,) = series["litert-xnnpack, batch 1", "latency"]["changes"]
    assert (slower["index"], slower["commit"], slower["is_confirmed"]) == (4, f"{4:012x}", True)
    (more,) = series["x86-64", "instructions"]["changes"]
    assert (more["commit"], more["before"], more["after"]) == (f"{6:012x}", 1000, 1001)
    assert series["", "bytes"]["changes"] == []
    assert (tmp_path / "h.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("fact", [{"machine": "another"}, {"cpu_features": ("another",)}])
def test_runs_of_one_commit_are_one_point_and_machines_are_apart(
    lenet_edge_here: LenetEdge, tmp_path: Path, fact: dict[str, Any]
) -> None:
    for number, us in enumerate((10, 11, 12)):
        saved(tmp_path, number, us, 1000)
        run = dataclasses.replace(BenchRun.load(tmp_path / f"{number}.json"), git_commit="abc")
        environment = dataclasses.replace(run.environment, **(fact if number == 2 else {}))
        dataclasses.replace(run, environment=environment).save(tmp_path / f"{number}.json")
    done = lenet_edge_here("history", tmp_path, "--json", "h.json", "--plot", "h.png")
    assert done.returncode == 0, done.stderr
    # Both runs of this machine are of one commit.
    assert "No figure was measured at two commits" in done.stderr
    assert not (tmp_path / "h.png").exists()
    listed = json.loads((tmp_path / "h.json").read_text())
    latencies = [each["points"] for each in listed if each["metric"] == "latency"]
    assert [len(each) for each in latencies] == [1, 1]
    counts = [each for each in listed if each["metric"] == "instructions"]
    assert len(counts) == 1
    run = BenchRun.load(tmp_path / "1.json")
    other = dataclasses.replace(run.instruction_counts[0], compiler="clang", instructions=900.0)
    arm = dataclasses.replace(other, cpu="arm64")  # which has another compiler, and only one
    dataclasses.replace(run, instruction_counts=(other, arm)).save(tmp_path / "3.json")
    lenet_edge_here("history", tmp_path, "--json", "h.json")
    listed = json.loads((tmp_path / "h.json").read_text())
    counts = [each for each in listed if each["metric"] == "instructions"]
    assert [each["place"] for each in counts] == ["arm64", "x86-64, clang", "x86-64, gcc"]
    assert not any(each["changes"] for each in counts)


def test_the_report_has_a_chapter_with_the_change_points(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    for number in range(8):
        saved(tmp_path / "results", number, 10 if number < 4 else 14, 1000)
    words = ["report", "results/7.json", "--history", "results", "--output"]
    for name in ("r.md", "r.html"):
        done = lenet_edge_here(*words, name)
        assert done.returncode == 0, done.stderr
        text = (tmp_path / name).read_text()
        assert "1 change point in 4 figures." in text
        assert "×1.4 from 0000000 on" in text


def test_a_folder_without_results_is_an_error(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    done = lenet_edge_here("history", tmp_path)
    assert done.returncode == 1
    assert "has no result files" in done.stderr
    assert lenet_edge_here("history", "none").returncode == 1
