"""Commands, options, links, extras and folders that the documents name exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from lenet_edge import __version__
from lenet_edge.cli import main
from lenet_edge.runtimes import all_targets

ROOT = Path(__file__).parents[1]
CONTEXT = click.Context(main)
COMMANDS = {name: main.get_command(CONTEXT, name) for name in main.list_commands(CONTEXT)}
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
TEXTS = {name: path.read_text() for name, path in PAGES.items()}
# Options of other programs.
OTHERS = {
    "--benchmark-only", "--build", "--count", "--dashboard-address", "--host", "--minutes",
    "--name", "--no-dashboard", "--no-nanny", "--nthreads", "--publish", "--resources", "--rm",
    "--build-arg", "--editable", "--file", "--tag", "--user", "--volume",
    "--backend-store-uri",
}  # fmt: skip


def options(command: click.Command | None) -> set[str]:
    assert command
    below = command.commands.values() if isinstance(command, click.Group) else ()
    own = {text for option in command.params for text in option.opts} | {"--help"}
    return own.union(*map(options, below))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_the_documents_exists_with_its_options(page: str) -> None:
    for name, rest in re.findall(r"lenet-edge ([a-z]+)([^`\n|]*)", TEXTS[page]):
        assert name in COMMANDS, name
        assert set(re.findall(r"--[a-z][a-z0-9-]+", rest)) <= options(COMMANDS[name]), (name, rest)


def test_every_command_is_in_the_readme_s_table() -> None:
    table = re.findall(r"^\| `lenet-edge ([a-z]+)", README, re.MULTILINE)
    assert sorted(table) == sorted(COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_every_option_in_the_documents_exists_somewhere(page: str) -> None:
    known = OTHERS.union(*map(options, COMMANDS.values()))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", TEXTS[page])) <= known


@pytest.mark.parametrize(
    "path",
    [
        *PAGES.values(),
        *(ROOT / f"{name}.md" for name in ("ARCHITECTURE", "CONTRIBUTING", "SECURITY")),
    ],
    ids=lambda p: p.name,
)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_every_page_is_linked_from_the_readme() -> None:
    linked = re.findall(r"\]\(docs/([^)]+\.md)\)", README)
    assert sorted({*linked, "README.md"}) == sorted(PAGES)


def test_every_promise_of_security_md_has_a_command_that_is_there() -> None:
    table = (ROOT / "SECURITY.md").read_text().split("| promise |")[1].split("\n\n")[0]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for row in table.splitlines()[2:]:
        promise, tested, figure, command = row.strip("| ").split(" | ")
        assert promise and tested and figure, row  # noqa: PT018
        words = command.strip("`").split()
        program, *words = [word for word in words if not re.match("[A-Z_]+=", word)]
        if command == "the same":
            continue
        if program == "make":
            assert words[0] in targets, row
        elif program == "python":
            place = ROOT / words[1].replace(".", "/")
            assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), row
        else:
            assert program == "pytest", row
            assert all((ROOT / word).exists() for word in words if word.startswith("tests/")), row


def test_the_extras_in_the_readme_exist() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    extras = set(re.findall(r"^([a-z]+) = \[", project.split("optional-dependencies]")[1], re.M))
    table = README.split("| extra |")[1].split("\n\n")[0]
    named = set(re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE))
    assert named
    assert named <= extras
    assert {target.extra for target in all_targets() if target.extra} <= extras


def test_the_folder_table_names_every_folder_and_nothing_else() -> None:
    table = ARCHITECTURE.split("| folder |")[1].split("\n\n")[0]
    listed = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    folders = [
        f"{path.name}{'/' if path.is_dir() else ''}"
        for path in (ROOT / "lenet_edge").iterdir()
        if not path.name.startswith(("_", ".")) and path.name != "py.typed"
    ]
    assert sorted(listed) == sorted(folders)


def test_the_changelog_has_this_version_or_an_unreleased_section() -> None:
    heads = re.findall(r"^## (\S+)", CHANGELOG, re.MULTILINE)
    assert heads[0] in ("Unreleased", __version__)
