"""The help: commands under headings, options in groups, and suggestions for misspelt names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import lenet_edge
from lenet_edge.cli import main
from lenet_edge.cli._help import OUTPUT, Group, Section, option
from lenet_edge.errors import DataError
from lenet_edge.flows import datasets
from tests.cli.test_errors import one_line
from tests.conftest import LenetEdge
from tests.test_docs import COMMANDS

PACKAGE = Path(lenet_edge.__file__).parent
ORDER = [
    "run", "train", "finetune", "search", "export", "tune", "describe", "verify", "bench",
    "inspect", "compare", "report", "estimate", "history", "card", "predict", "serve",
    "bundle", "deploy", "fleet", "doctor", "targets",
]  # fmt: skip


def help_of(*command: str, columns: int = 80) -> str:
    """Return the help of a command at a width of `columns`."""
    result = CliRunner().invoke(
        main, [*command, "--help"], env={"COLUMNS": str(columns)}, prog_name="lenet-edge"
    )
    assert result.exit_code == 0, result.output
    return result.output


def headings(text: str) -> list[str]:
    return re.findall(r"^(\S.*):$", text, re.MULTILINE)


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_help_lists_the_commands_in_the_order_of_the_work(columns: int) -> None:
    text = help_of(columns=columns)
    assert headings(text) == [
        *(section.value for section in Section if section is not Section.OTHER), "Options",
    ]  # fmt: skip
    lines = text.partition("Options:")[0].splitlines()
    rows = dict(line.split(maxsplit=1) for line in lines if re.match(r"  [a-z]+ {2,}\S", line))
    assert list(rows) == ORDER
    assert set(rows) == set(COMMANDS)
    for name, summary in rows.items():  # each summary is a whole sentence on one line
        command = COMMANDS[name]
        assert command is not None
        assert command.help is not None
        assert summary == command.help.splitlines()[0]
        assert summary.endswith(".")


def subcommands(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    below = command.commands if isinstance(command, click.Group) else {}
    return [(name, command), *((f"{name} {sub}", below[sub]) for sub in below)]


EVERY_COMMAND = [
    pair for name, command in COMMANDS.items() if command for pair in subcommands(command, name)
]


@pytest.mark.parametrize(("name", "command"), EVERY_COMMAND, ids=str)
def test_every_option_has_a_group_and_a_help_text(name: str, command: click.Command) -> None:
    options = [param for param in command.params if isinstance(param, click.Option)]
    for param in options:
        assert param.help, param.name
        assert param.help.endswith("."), param.help
        assert param.name == "debug" or getattr(param, "group", None), param.name
    titles = headings(help_of(*name.split()))
    if len(options) > 1:  # only --debug needs no groups
        assert titles[-1] == "Other options"
        assert OUTPUT not in titles or titles.index(OUTPUT) == len(titles) - 2
        assert len(titles) == len(set(titles))


def test_the_texts_of_all_groups_stand_in_one_column() -> None:
    lines = [line for line in help_of("inspect").splitlines() if re.match(r"  -+\w", line)]
    columns = {len(line) - len(re.split(r" {2,}", line, maxsplit=2)[2]) for line in lines}
    assert len(lines) == 4
    assert len(columns) == 1


def test_a_new_file_is_listed_under_the_last_heading(tmp_path: Path) -> None:
    """A command that knows nothing of headings, in a copy of the package."""
    copy = tmp_path / "lenet_edge"
    (copy / "cli").mkdir(parents=True)
    for folder in (Path(), Path("cli")):
        for path in (PACKAGE / folder).iterdir():
            if path.name not in ("cli", "__pycache__"):
                (copy / folder / path.name).symlink_to(path)
    (copy / "cli" / "hello.py").write_text(
        "import click\n\n\n@click.command('hello')\n@click.option('--name', help='A name.')\n"
        "def command(name):\n    '''Greet.'''\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "lenet_edge", "--help"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\nOther commands:\n  hello     Greet.\n\nOptions:" in done.stdout


def test_a_group_keeps_the_order_of_its_commands() -> None:
    text = help_of("fleet")
    assert re.findall(r"^  (up|status|down) ", text, re.MULTILINE) == ["up", "status", "down"]
    assert headings(text) == ["Commands", "Options"]


@pytest.mark.parametrize(
    ("arguments", "status", "hint"),
    [
        (["benhc"], 2, "No such command 'benhc'; did you mean bench? See: lenet-edge --help"),
        (["fleet", "upp"], 2, "did you mean up? See: lenet-edge fleet --help"),
        (["--verison"], 2, "No such option '--verison'; did you mean --version?"),
        (["bench", "--tagret", "litert"], 2, "did you mean --target? See: lenet-edge bench --help"),
        (["fleet", "up", "--inventry", "a"], 2, "did you mean --inventory?"),
        (["export", "--format", "tflit"], 2, "did you mean tflite?"),
        (["train", "--recipe", "bset"], 2, "did you mean best?"),
        (["bench", "--scenario", "offlin"], 2, "did you mean offline?"),
        (["doctor", "--job", "bord"], 2, "did you mean board?"),
        (["deploy", "pi", "--runtime", "litrt"], 2, "did you mean litert?"),
        (["bundle", "--wheels", "bokworm-armhf"], 2, "did you mean bookworm-armhf"),
        (["estimate", "--accelerator", "ethos-u55-31"], 2, "did you mean ethos-u55-32"),
    ],
    ids=str,
)
def test_a_misspelt_name_gets_a_suggestion(
    lenet_edge_here: LenetEdge, arguments: list[str], status: int, hint: str
) -> None:
    done = lenet_edge_here(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert hint in one_line(done.stderr)
    assert done.stderr.count("\n") == 1


def test_a_misspelt_data_set_gets_a_suggestion() -> None:
    with pytest.raises(DataError, match="minst is not a data set; did you mean mnist"):
        datasets.load("minst")


@pytest.mark.parametrize("arguments", [["zzzzz"], ["--zzzzz"], ["-z"], ["bench", "--zzzzz"]])
def test_a_name_that_resembles_nothing_gets_none(
    lenet_edge_here: LenetEdge, arguments: list[str]
) -> None:
    done = lenet_edge_here(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean" not in one_line(done.stderr)
    assert "--help" in done.stderr


def test_options_outside_this_program_work_too() -> None:
    """`option` and `Group` with nothing of lenet-edge around them."""

    @click.group(cls=Group)
    def tool() -> None:
        """Do things."""

    @tool.command("act")
    @option("How", "--fast", is_flag=True, help="Hurry.")
    @option(OUTPUT, "--file", help="File to write.")
    @option("How", "--often", help="Number of times.")
    def act(fast: bool, file: str | None, often: str | None) -> None:
        """Act."""
        click.echo(f"{fast} {file} {often}")

    runner = CliRunner()
    assert headings(runner.invoke(tool, ["act", "--help"]).output) == [
        "How", "Output", "Other options",
    ]  # fmt: skip
    assert runner.invoke(tool, ["act", "--fast", "--often", "2"]).output == "True None 2\n"
