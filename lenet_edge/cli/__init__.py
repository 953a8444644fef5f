"""The commands, one file each: ``cli/bench.py`` holds ``lenet-edge bench``.

A command's file imports click and nothing heavier; what it needs it imports when it runs, so
that ``--help`` answers at once and a board without TensorFlow can run all that it can run.
Files whose name starts with an underscore are shared by commands and are none themselves.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Iterator

import click

from lenet_edge import __version__
from lenet_edge.errors import LenetEdgeError


class _Commands(click.Group):
    """A group whose commands are the files of this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        with _one_line_errors(debug=ctx.params["debug"]):
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_line_errors(debug: bool) -> Iterator[None]:
    """Turn a LenetEdgeError into one red line and exit status 1."""
    try:
        yield
    except LenetEdgeError as error:
        if debug:
            raise
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(1)


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start here: lenet-edge run",
)
@click.version_option(__version__, prog_name="lenet-edge")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Train LeNet, export it for the edge, prove each file is right, and time it."""
