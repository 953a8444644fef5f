"""The command line ``lenet-edge``: each file of this folder holds the command of its name.

A command's file imports only click and imports the rest when the command runs. This keeps
``--help`` fast, and a board without TensorFlow can run the commands that do not need it.
Files whose name starts with an underscore hold code that the commands share.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from lenet_edge import __version__
from lenet_edge.cli._help import Group, usage_message
from lenet_edge.cli._terminal import say
from lenet_edge.errors import LenetEdgeError, MissingPackageError, UsageError
from lenet_edge.flows.host import HOST_PACKAGES
from lenet_edge.support.command_line import recorded_command
from lenet_edge.support.memory_limit import check_memory_limit, memory_limit
from lenet_edge.support.printable import make_printable
from lenet_edge.support.streams import open_standard_streams
from lenet_edge.support.temporary import no_room


class _Commands(Group):
    """The command group that finds its commands in the files of this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in alphabetical order."""
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the file of a command and return the command; None if there is no such file."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)
        if not any(option.name == "debug" for option in command.params):
            command.params.append(_debug_option())  # accepts --debug after the command as well
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the options before the command, with errors as one line each."""
        try:
            if "" in args:
                raise click.UsageError("An argument is empty; check the variables in the command")
            words = tuple(args)  # click empties the list
            context = super().make_context(info_name, args, parent, **extra)
            context.meta[_ARGUMENTS] = words
            return context
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            _stop_usage(usage_message(error), "lenet-edge")
        except LenetEdgeError as error:  # --version on a full disk
            _stop(str(error), 1)

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the program."""
        open_standard_streams()
        return super().main(*arguments, **options)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, with errors as one line each."""
        with _one_line_errors(ctx), recorded_command(ctx.meta[_ARGUMENTS]):
            check_memory_limit("lenet-edge", _MIN_MEMORY_BYTES)
            return super().invoke(ctx)


_MIN_MEMORY_BYTES = 128 * 2**20  # of Python and NumPy
_INTERRUPTED = 130  # exit status of a shell command that Ctrl-C ended


@contextlib.contextmanager
def _one_line_errors(ctx: click.Context) -> Iterator[None]:
    """Print errors that are meant for the user as one red line and exit.

    The exit status is 1, or 2 for wrong usage. Ctrl-C prints one plain line, which is the text of
    the KeyboardInterrupt if it has one, and exits with 130.
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
        _stop_usage(usage_message(error), command)
    except UsageError as error:
        _stop_usage(str(error), f"{ctx.command_path} {ctx.invoked_subcommand}")
    except LenetEdgeError as error:
        if ctx.meta.get(_DEBUG):
            raise
        _stop(str(error), 1)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in HOST_PACKAGES or ctx.meta.get(_DEBUG):
            raise
        _stop(str(MissingPackageError(package, "host")), 1)
    except (OSError, MemoryError) as error:
        if ctx.meta.get(_DEBUG):
            raise
        _stop(_describe(error), 1)


def _describe(error: OSError | MemoryError) -> str:
    """Return the line for an error of the environment that no stage has explained."""
    if isinstance(error, MemoryError):
        advice = "close other programs" if memory_limit() is None else "raise the limit (ulimit -d)"
        return f"there is not enough memory; {advice}"
    reason = error.strerror or str(error)
    # Outputs have messages of their own.
    if (error.errno == errno.ENOSPC and not error.filename) or "temporary directory" in reason:
        return str(no_room(error))
    if error.errno == errno.ENOENT and not error.filename:  # of os.getcwd
        return "the current folder was deleted; change to another folder"
    if error.errno == errno.EMFILE:
        return f"{reason}; raise the limit (ulimit -n)"
    return f"{error.filename}: {reason}" if error.filename else reason


def _stop_usage(message: str, command: str) -> NoReturn:
    see = " See" if message.endswith("?") else "; see"
    _stop(f"{message}{see}: {command} --help", 2)


_SHOWN = 400  # characters of a long error message, at its start and at its end


def _stop(message: str, status: int) -> NoReturn:
    message = make_printable(" ".join(message.split()))
    if len(message) > 2 * _SHOWN:  # Keras quotes the whole model; --debug shows all
        message = f"{message[:_SHOWN]} … {message[-_SHOWN:]}"
    plain = False if os.environ.get("NO_COLOR") else None  # see no-color.org; click ignores it
    click.secho(f"Error: {message}", fg="red", err=True, color=plain)
    sys.exit(status)


_DEBUG = "lenet_edge.debug"
_ARGUMENTS = "lenet_edge.arguments"


def _debug_option() -> click.Option:
    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta[_DEBUG] = True

    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Show the traceback if an error occurs.",
    )


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="The help of each command has an example: lenet-edge bench --help",
    params=[_debug_option()],
)
@click.version_option(__version__, prog_name="lenet-edge")
def main() -> None:
    """Train LeNet, export it for edge devices, and verify and time each file."""
