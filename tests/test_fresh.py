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
def test_a_bare_debian_13_runs_the_demo_and_the_quick_tests() -> None:
    """`python -m tests.fresh` runs README's commands on Debian 12 and 13: too long for CI."""
    if reason := fresh.missing():
        needs.leave_out(reason)
    assert fresh.run("trixie", ["make demo", "make quick"])
