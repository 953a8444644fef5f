"""Layout of the help: commands under headings, options in groups, and suggestions for typos.

click itself prints one list of commands and one list of options. A command opts in by
``cls=Command`` or ``cls=Group`` with its `Section` and position, and by `option`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lenet_edge.cli._outputs import check_files
from lenet_edge.support.spelling import did_you_mean

if TYPE_CHECKING:
    _Choice = click.Choice[str]
else:
    _Choice = click.Choice  # not generic before click 8.4

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Section(enum.Enum):
    """Headings of ``lenet-edge --help``, in the order in which they are printed."""

    START = "Start here"
    MAKE = "Make a model"
    MEASURE = "Prove and measure"
    USE = "Use a model"
    BOARDS = "Boards"
    MACHINE = "This machine"
    OTHER = "Other commands"


# Titles of the option groups that several commands share.
TARGETS = "Files and targets"
DATA = "Images"
INPUT = "What the model takes"
TRAINING = "How to train"
MEASURING = "How to measure"
FLEET = "Fleet"
OUTPUT = "Output"
_OTHER_OPTIONS = "Other options"
_LAST = (OUTPUT, _OTHER_OPTIONS)  # the other groups keep the order of their options


class Option(click.Option):
    """An option that the help lists under the title `group`."""

    def __init__(self, *arguments: Any, group: str, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.group = group


def option(group: str, *names: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """Return the decorator of `click.option`, for an option in a group of the help."""
    return click.option(*names, cls=Option, group=group, **attributes)


def check_choice(name: str, choices: Sequence[str]) -> None:
    """Check that a name is one of the choices.

    Raises:
        click.BadParameter: it is not; the message lists the choices and suggests near ones.
    """
    if name not in choices:
        message = f"{name!r} is not one of {', '.join(map(repr, choices))}"
        hint = did_you_mean(name, choices)
        raise click.BadParameter(f"{message}; {hint}" if hint else message)


class StringChoice(_Choice):
    """A choice of strings whose error suggests the nearest of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the chosen string.

        Raises:
            click.BadParameter: `value` is not one of the choices.
        """
        check_choice(value, self.choices)
        return str(value)


class Command(click.Command):
    """A command with grouped options, listed under `section` in the order of `position`."""

    def __init__(
        self, *arguments: Any, section: Section = Section.OTHER, position: int = 0, **others: Any
    ) -> None:
        super().__init__(*arguments, **others)
        self.section, self.position = section, position

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, if its outputs replace none of its inputs."""
        check_files(ctx)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        _write_options(self, ctx, formatter)


class Group(click.Group):
    """A command with commands of its own, which the help prints before the options."""

    command_class = Command

    def __init__(
        self, *arguments: Any, section: Section = Section.OTHER, position: int = 0, **others: Any
    ) -> None:
        super().__init__(*arguments, **others)
        self.section, self.position = section, position

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of their definition."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and then the options."""
        self.format_commands(ctx, formatter)
        _write_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the name and the whole summary of each command, section by section."""
        commands = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                commands[name] = command
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in sorted(commands.items(), key=lambda item: _place(item[1])):
            summary = command.get_short_help_str(limit=1000)  # the default limit cuts it
            sections.setdefault(_section(command).value, []).append((name, summary))
        if list(sections) == [Section.OTHER.value]:
            sections = {"Commands": sections[Section.OTHER.value]}
        _write_sections(formatter, sections)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the name, the command and the remaining arguments.

        Raises:
            click.UsageError: there is no such command; the message suggests near names.
        """
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(_unknown("command", name, known), ctx)
        return super().resolve_command(ctx, args)


def usage_message(error: click.UsageError) -> str:
    """Return the message of a usage error, with suggestions for a misspelt option."""
    if isinstance(error, click.NoSuchOption):
        return _unknown("option", error.option_name, error.possibilities or ())
    return error.format_message().rstrip(".")


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    hint = did_you_mean(name, known)
    return f"No such {kind} {name!r}" + (f"; {hint}" if hint else "")


def _section(command: click.Command) -> Section:
    section = getattr(command, "section", Section.OTHER)  # plain click commands have none
    assert isinstance(section, Section)
    return section


def _place(command: click.Command) -> tuple[int, int]:
    return list(Section).index(_section(command)), getattr(command, "position", 0)


def _write_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        row = parameter.get_help_record(ctx)
        if row is not None and isinstance(parameter, click.Option):
            groups.setdefault(getattr(parameter, "group", _OTHER_OPTIONS), []).append(row)
    if list(groups) == [_OTHER_OPTIONS]:
        groups = {"Options": groups[_OTHER_OPTIONS]}
    _write_sections(formatter, dict(sorted(groups.items(), key=lambda group: _rank(group[0]))))


def _rank(title: str) -> int:
    return _LAST.index(title) if title in _LAST else -1


_NAMES_WIDTH = 30  # click's default: a longer name gets a line of its own


def _write_sections(
    formatter: click.HelpFormatter, sections: dict[str, list[tuple[str, str]]]
) -> None:
    """Write lists of names and texts, with the texts of all lists in one column."""
    lengths = [len(name) for rows in sections.values() for name, _ in rows]
    widest = min(_NAMES_WIDTH, formatter.width * 2 // 5)
    width = min(max(lengths, default=0), widest)
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl([(name.ljust(width), text) for name, text in rows], widest)
