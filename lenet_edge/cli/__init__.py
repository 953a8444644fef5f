"""The commands, one file each: ``cli/bench.py`` holds ``lenet-edge bench``.

A command's file imports click and nothing heavier; what it needs it imports when it runs, so
that ``--help`` answers at once and a board without TensorFlow can run all that it can run.
Files whose name starts with an underscore are shared by commands and are none themselves.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator
from typing import NoReturn

import click

from lenet_edge import __version__
from lenet_edge.cli._terminal import say, tame
from lenet_edge.errors import LenetEdgeError, MissingPackageError, UsageError

# What `train`, `export` and `run` import as they start, and a board does not have.
_HOST_PACKAGES = ("tensorflow", "keras", "onnx", "onnxruntime", "tf2onnx")


class _Commands(click.Group):
    """A group whose commands are the files of this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)
        if not any(option.name == "debug" for option in command.params):
            command.params.append(_debug_option())  # so that it may stand at the end of the line
        return command

    def invoke(self, ctx: click.Context) -> object:
        with _one_line_errors(ctx):
            return super().invoke(ctx)


_INTERRUPTED = 130  # the shell's own for Ctrl-C


@contextlib.contextmanager
def _one_line_errors(ctx: click.Context) -> Iterator[None]:
    """Turn an error made for the user into one red line: exit status 1, or 2 for wrong usage.

    Ctrl-C is the user's own: one plain line, which a command may give as KeyboardInterrupt's text,
    and the shell's status for it.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        say(str(interrupt) or "Stopped")
        sys.exit(_INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else ctx.command_path
        _stop(f"{error.format_message().rstrip('.')}; see: {command} --help", error.exit_code)
    except UsageError as error:
        command = f"{ctx.command_path} {ctx.invoked_subcommand}"
        _stop(f"{error}; see: {command} --help", 2)
    except LenetEdgeError as error:
        if ctx.meta.get(_DEBUG):
            raise
        _stop(str(error), 1)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _HOST_PACKAGES or ctx.meta.get(_DEBUG):
            raise
        _stop(str(MissingPackageError(package, "host")), 1)


_SHOWN = 400  # characters of an error's beginning, and of its end


def _stop(message: str, status: int) -> NoReturn:
    message = tame(" ".join(message.split()))
    if len(message) > 2 * _SHOWN:  # Keras repeats the whole model; --debug shows it
        message = f"{message[:_SHOWN]} … {message[-_SHOWN:]}"
    plain = False if os.environ.get("NO_COLOR") else None  # no-color.org; click does not look
    click.secho(f"Error: {message}", fg="red", err=True, color=plain)
    sys.exit(status)


_DEBUG = "lenet_edge.debug"


def _debug_option() -> click.Option:
    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta[_DEBUG] = True

    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Show the traceback of an error.",
    )


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start here: lenet-edge run",
    params=[_debug_option()],
)
@click.version_option(__version__, prog_name="lenet-edge")
def main() -> None:
    """Train LeNet, export it for the edge, prove each file is right, and time it."""
