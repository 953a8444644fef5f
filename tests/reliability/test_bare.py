"""Commands in bare environments: each ends soon, with success or one line.

`python -m tests.reliability.bare` runs every command in every environment.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.reliability import bare
from tests.reliability.bare import ARGUMENTS, ENVIRONMENTS, OTHERS, STREAMS, Inputs, Outcome

_CLOSED = [environment.name for environment in STREAMS if set(environment.streams) <= set("-c")]
# What failed in different ways, each with the fastest command that showed it, and its status.
_OFTEN = [
    *((name, "predict", 0) for name in _CLOSED[1:]),
    ("descriptors -f-", "inspect", 1),
    ("descriptors -ff", "predict", 1),
    ("descriptors -p-", "inspect", 1),
    ("TMPDIR full", "bench", 1),
    ("DATA 2 GiB", "predict", 0),
    ("DATA 32 MiB", "serve", 1),
    ("ASCII", "inspect", 0),
    ("ASCII, other names", "report", 4),
    ("long names", "bundle", 1),
]
_NAMES = list(ARGUMENTS)
_ALL = [*STREAMS, *OTHERS]
# Every environment and every command at least once.
_SELDOM = [(each.name, _NAMES[index % len(_NAMES)]) for index, each in enumerate(_ALL)]


def run(name: str, command: str, folder: Path) -> Outcome:
    environment = ENVIRONMENTS[name]
    if (environment.setup or environment.tmp) and os.geteuid():
        pytest.skip("only root can mount")
    outcome = bare.run(environment, command, Inputs.make(folder, environment.stem))
    assert outcome.fault is None, outcome
    return outcome


def test_no_command_is_left_out() -> None:
    assert sorted(bare.command_names()) == sorted(ARGUMENTS)


@pytest.mark.costly
@pytest.mark.parametrize(("name", "command", "status"), _OFTEN, ids=str)
def test_a_command_in_a_bare_environment(
    name: str, command: str, status: int, tmp_path: Path
) -> None:
    assert run(name, command, tmp_path).status == status


@pytest.mark.slow
@pytest.mark.parametrize(("name", "command"), _SELDOM, ids=str)
def test_every_environment(name: str, command: str, tmp_path: Path) -> None:
    run(name, command, tmp_path)


def test_a_full_output_is_an_error(tmp_path: Path) -> None:
    outcome = run("descriptors -f-", "compare", tmp_path)
    assert outcome.status == 1
    assert outcome.line == (
        "Error: cannot write to standard output: No space left on device; check where it leads"
    )


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    assert run("descriptors -p-", "compare", tmp_path).stderr == ""


def test_a_full_disk_of_temporary_files_names_the_variable(tmp_path: Path) -> None:
    outcome = run("TMPDIR full", "estimate", tmp_path)
    assert outcome.status == 1
    assert outcome.line == (
        "Error: cannot write a temporary file: No space left on device; set TMPDIR to a folder"
        " with free space"
    )


def test_a_deleted_current_folder_is_named(tmp_path: Path) -> None:
    outcome = run("deleted folder", "deploy", tmp_path)
    assert outcome.line == "Error: the current folder was deleted; change to another folder"
