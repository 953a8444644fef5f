"""Commands in the report: the recorded ones, and the next ones."""

from __future__ import annotations

import dataclasses
import html
import json
import shlex
import shutil
from pathlib import Path

import click
import pytest

from lenet_edge.cli import main
from lenet_edge.flows.report import report
from lenet_edge.report.commands import commands_of, next_command
from lenet_edge.report.eligibility import Limits
from lenet_edge.report.machine_report import report_on_machine
from lenet_edge.report.page import build
from lenet_edge.report.recommend import Recommendation
from lenet_edge.report.training_section import read_training
from lenet_edge.results.result_file import BenchRun
from lenet_edge.support.command_line import current_command, recorded_command
from tests.conftest import LenetEdge
from tests.report.builders import parity_report
from tests.report.test_join_runs import BENCH, VERIFY
from tests.report.test_layers import TIMES
from tests.report.test_page import RECORDED

EXPORTED = Path(__file__).parents[2] / "exported"


def test_results_hold_the_command_that_wrote_them(tmp_path: Path) -> None:
    with recorded_command(("verify", "a file.tflite", "--json", "v.json")):
        run = BenchRun.of_this_machine(parity=(parity_report("a file.tflite"),))
    assert current_command() is None
    assert BenchRun.of_this_machine().commands == ()
    run.save(tmp_path / "run.json")
    loaded = BenchRun.load(tmp_path / "run.json")
    assert loaded.commands == ("lenet-edge verify 'a file.tflite' --json v.json",)
    text = build([("run.json", loaded), ("bench.json", BENCH)]).render(".md")
    parity = text.partition("## Parity")[2].partition("##")[0]
    assert "Measured by: lenet-edge verify 'a file.tflite' --json v.json" in parity
    assert "Measured by" not in text.partition("## All latencies")[2].partition("##")[0]
    facts = run.to_json()
    del facts["commands"]  # as earlier versions wrote it
    (tmp_path / "old.json").write_text(json.dumps(facts))
    assert BenchRun.load(tmp_path / "old.json").commands == ()


@pytest.mark.parametrize(
    "hostile",
    ["lenet-edge verify; rm -rf ~", "lenet-edge verify $(id)", "rm verify", "lenet-edge 'verify",
     "lenet-edge verify 'a\nb'", "", "lenet-edge"],
)  # fmt: skip
def test_only_plain_commands_are_shown(hostile: str) -> None:
    run = dataclasses.replace(VERIFY, commands=("lenet-edge verify 'a b'", hostile))
    assert commands_of(run, "parity") == ["lenet-edge verify 'a b'"]


def test_the_page_names_its_own_command(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    done = lenet_edge_here("report", RECORDED[-1], "--max-latency", "50us")
    assert done.returncode == 0, done.stderr
    command = f"lenet-edge report {RECORDED[-1]} --max-latency 50us"
    assert f"This page: <code>{command}</code>" in (tmp_path / "report.html").read_text()


def test_the_next_command_has_the_folder_of_its_file(
    lenet_edge_here: LenetEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the results, or in the folder of exported files; results have names alone."""
    for folder in ("my models", "exported"):
        (tmp_path / folder).mkdir()
    shutil.copy(RECORDED[-1], tmp_path / "my models" / "results.json")
    chosen = report_on_machine([BenchRun.load(RECORDED[-1])], Limits()).advice
    assert isinstance(chosen, Recommendation)
    name = chosen.measurement.artifact
    (tmp_path / "exported" / name).touch()
    done = lenet_edge_here("report", "my models/results.json")
    assert done.returncode == 0, done.stderr
    page = html.unescape((tmp_path / "report.html").read_text())
    assert f"lenet-edge deploy pi@raspberrypi.local exported/{name}" in page

    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported" / name).rename(tmp_path / "my models" / name)
    (machine,) = report([Path("my models/results.json")], Limits()).machines
    command = machine.next_command("advice") or ""
    assert command.startswith(f"lenet-edge deploy pi@raspberrypi.local 'my models/{name}'")


def test_a_name_that_is_too_long_for_a_file_has_no_folder(tmp_path: Path) -> None:
    """Result files may come from others, with any names of files."""
    name = f"{'x' * 300}.tflite"
    times = dataclasses.replace(TIMES, artifact=name)
    run = dataclasses.replace(BENCH, layer_times=(times,))
    advice = report_on_machine([run], Limits()).advice
    command = next_command(run, advice, "layers1", [tmp_path])
    assert command == f"lenet-edge inspect {name}"
    assert read_training(tmp_path, name) is None


def test_each_next_command_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments are those of the command, and the files exist where they were exported."""
    times = dataclasses.replace(TIMES, artifact="lenet_int8.tflite")
    recorded = BenchRun.load(RECORDED[-1])
    failed = dataclasses.replace(recorded.parity[-1], verdict="fail")
    runs = [
        recorded,
        dataclasses.replace(recorded, parity=(*recorded.parity, failed), layer_times=(times,)),
        dataclasses.replace(BENCH, parity=VERIFY.parity),
    ]
    commands = set()
    for run in runs:
        on_machine = report_on_machine([run], Limits())
        anchors = ("advice", *(section.anchor for section in on_machine.sections))
        commands |= {on_machine.next_command(anchor) for anchor in anchors}
    commands.discard(None)
    assert len(commands) > 6
    monkeypatch.chdir(EXPORTED)
    for line in sorted(map(str, commands)):
        program, name, *arguments = shlex.split(line)
        command = main.get_command(click.Context(main), name)
        assert program == "lenet-edge"
        assert command
        with command.make_context(name, arguments):
            pass
