"""README's promise on a bare Debian 13, and the parts that `fresh` is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fresh, needs


def test_the_commands_are_those_of_the_readme() -> None:
    assert fresh.readme_commands() == ["make demo", "make test"]


def test_the_root_sees_the_local_indexes_of_this_machine(tmp_path: Path) -> None:
    wheels, index = tmp_path / "wheels", tmp_path / "index"
    wheels.mkdir()
    (index / "simple").mkdir(parents=True)
    value = f"https://example.org/simple {wheels} file://{index}/simple {tmp_path}/absent"
    assert fresh.local_paths(value) == [wheels, index]


@pytest.mark.slow
def test_a_bare_debian_13_runs_the_demo() -> None:
    """`python -m tests.fresh` runs both commands of the README, in full. That is too long for CI.

    Here the demo trains one epoch and measures one batch size.
    """
    if reason := fresh.missing():
        needs.leave_out(reason)
    assert fresh.run("trixie", ["make demo OPTIONS='--epochs 1 --batch-size 1'"])
