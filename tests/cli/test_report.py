"""Tests of `report`: the printed recommendation and the page."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import LenetEdge
from tests.report.test_page import RECORDED, Page

RESULTS = RECORDED[0]


@pytest.mark.costly
def test_the_recommendation_is_printed_and_the_page_written(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    done = lenet_edge_here("report", RESULTS)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "The report is in report.html.\n"
    text = " ".join(done.stdout.split())
    assert text.startswith("Ship lenet_int8.tflite on litert-xnnpack with 1 thread. At batch")
    page = Page((tmp_path / "report.html").read_text())
    assert text.partition(" At batch")[2] in page.text
    assert RESULTS.name in page.text


def test_the_json_holds_the_same_recommendation(lenet_edge_here: LenetEdge) -> None:
    done = lenet_edge_here("report", RESULTS, "--output", "report.md", "--json", "-")
    (advice,) = json.loads(done.stdout)
    assert advice["ship"]["artifact"] == "lenet_int8.tflite"
    assert advice["ship"]["target"] == "litert-xnnpack"
    assert advice["ship"]["num_threads"] == 1
    assert advice["others"][0]["why_not"].endswith("times as long")
    done = lenet_edge_here("report", RESULTS, "--output", "r.md", "--max-bytes", "9", "--json", "-")
    (advice,) = json.loads(done.stdout)
    assert advice["ship"] is None
    assert "more than the 9 of --max-bytes" in advice["reason"]


def test_the_results_of_run_are_the_default(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    shutil.copy(RESULTS, tmp_path / "demo" / "results.json")
    assert lenet_edge_here("report", "--output", "out/report.md").returncode == 0
    assert (tmp_path / "out" / "report.md").read_text().startswith("# Ship lenet_int8.tflite on")


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (["--max-accuracy-drop", "0.02"], "Ship lenet_dynamic.tflite on litert-xnnpack"),
        (["--max-accuracy-drop", "0", "--max-bytes", "100000"], "Ship lenet_int8.onnx on"),
        (["--batch-size", "128"], "At batch 128 it is the fastest"),
        (["--max-bytes", "98K"], "Ship lenet_"),
        (["--max-flash", "256k"], "has no known need of flash; count a C file with bench --count"),
        (["--max-latency", "4us"], "more than the 4.0 µs of --max-latency"),
        (["--max-latency", "0.004 ms"], "more than the 4.0 µs of --max-latency"),
    ],
    ids=str,
)
def test_limits(lenet_edge_here: LenetEdge, limits: list[str], says: str) -> None:
    done = lenet_edge_here("report", RESULTS, *limits, "--output", "report.md")
    assert done.returncode == (0 if "Ship" in done.stdout else 3), done.stderr
    assert says in " ".join(done.stdout.split())


def test_results_without_latencies_recommend_nothing_and_have_the_status_of_verify(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    facts = json.loads(RESULTS.read_text()) | {"measurements": [], "layer_times": []}
    for verdict, limits, status in (
        ("pass", (), 0),
        ("pass", ("--max-latency", "1s"), 4),
        ("inconclusive", (), 4),
        ("fail", (), 3),
    ):
        facts["parity"][0]["verdict"] = verdict
        (tmp_path / "verified.json").write_text(json.dumps(facts))
        done = lenet_edge_here("report", "verified.json", *limits, "--output", "report.md")
        assert done.returncode == status, done.stderr
        says = "Nothing to ship" if status == 3 else "No file is recommended"
        assert done.stdout.startswith(f"{says}. Nothing was timed; add the results of: lenet-edge")


@pytest.mark.costly
def test_compare_and_two_machines(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    facts = json.loads(RESULTS.read_text())
    facts["environment"]["machine"] = "<b>Another</b> machine"
    (tmp_path / "other.json").write_text(json.dumps(facts))
    done = lenet_edge_here("report", RESULTS, "other.json", "--compare", RESULTS)
    assert done.returncode == 0, done.stderr
    assert "<b>Another</b> machine (virtual, in docker), 2 cores\nShip " in done.stdout
    page = Page((tmp_path / "report.html").read_text())
    assert "What to ship on 2 machines" in page.text
    # The machine of the base has it twice: in the text at the top and as a heading.
    assert page.text.count("Change since") == 2
    assert "52 equal" in page.text


def test_bad_input_is_an_error_of_one_line_and_writes_no_page(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    (tmp_path / "notes.json").write_text('{"dear": "diary"}')
    for arguments, says in (
        (["notes.json"], "notes.json is not a result file"),
        ([RESULTS, "--output", "report.pdf"], "an .html or .md file"),
        ([RESULTS, "--batch-size", "7"], "nothing was measured at batch 7, only at 1, 8, 32, 128"),
        ([RESULTS, "--compare", "none.json"], "cannot read none.json"),
    ):
        done = lenet_edge_here("report", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: ")
        assert says in line
    assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]


@pytest.mark.costly
@pytest.mark.parametrize(
    ("package", "suffix"), [("jinja2", "md"), ("matplotlib", "html"), ("PIL", "html")]
)
def test_a_missing_package_is_named_with_its_pip_line(
    lenet_edge_here: LenetEdge, tmp_path: Path, package: str, suffix: str
) -> None:
    """Simulate a missing package by a module that raises ImportError."""
    (tmp_path / f"{package}.py").write_text("raise ImportError('not here')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from lenet_edge.cli import main;"
        f" main(['report', {str(RESULTS)!r}, '--output', 'report.{suffix}'])"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    name = {"PIL": "pillow"}.get(package, package)
    assert done.stderr == (
        f"Error: {name} is not installed; install it with: pip install jinja2 matplotlib pillow\n"
    )
    assert done.returncode == 1
