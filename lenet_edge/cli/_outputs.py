"""Types of parameters that name files, and the check of the outputs before a command runs.

Every option that names an output has the type `OutputFile` or `OutputFolder`. Every other
parameter whose type is `click.Path` or `PathOrName` names an input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from lenet_edge.errors import LenetEdgeError


class OutputFile(click.Path):
    """A file that a command writes.

    Args:
        suffixes: the usual suffixes of such a file.
        regular: the command reads the file after writing it, so streams are refused.
        allow_dash: "-" is standard output.
        written: patterns of other files that the command writes, by the path of the file.
    """

    def __init__(
        self,
        *suffixes: str,
        regular: bool = False,
        allow_dash: bool = False,
        written: Callable[[Path], tuple[str, ...]] = lambda path: (),
    ) -> None:
        super().__init__(path_type=Path, dir_okay=False, readable=False, allow_dash=allow_dash)
        self.suffixes, self.regular, self.written = suffixes, regular, written

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, after checking that it can be written.

        Raises:
            click.BadParameter: it cannot, or it is a FIFO that no process reads.
        """
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        is_completion = ctx is not None and ctx.resilient_parsing
        if not is_completion and not (self.allow_dash and is_dash(path)):
            self._check(path, param, ctx)
        return path

    def _check(self, path: Path, param: click.Parameter | None, ctx: click.Context | None) -> None:
        from lenet_edge.support import files

        try:
            for other in (path, *(path.parent / name for name in self.written(path))):
                if files.is_stream(other) and self.regular:
                    self.fail(f"{path} is not a regular file; name another file", param, ctx)
            if path.is_fifo() and ctx is not None:
                # An open FIFO keeps its reader until the command ends.
                opened = files.open_stream(path)
                ctx.call_on_close(lambda: os.close(opened))
        except LenetEdgeError as error:
            self.fail(str(error), param, ctx)


class OutputFolder(click.Path):
    """A folder in which a command creates files.

    `written` are patterns of the names of these files, as `fnmatch` reads them.
    """

    def __init__(self, *written: str) -> None:
        super().__init__(path_type=Path, file_okay=False)
        self.written = written

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, after checking that no device or FIFO has it.

        Raises:
            click.BadParameter: the path is not that of a folder.
        """
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if os.path.exists(path) and not path.is_dir():
            self.fail(f"{path} is not a folder; name a folder", param, ctx)
        return path


class PathOrName(click.types.StringParamType):
    """An input that is a path, or a word such as the name of a data set."""


def check_files(ctx: click.Context) -> None:
    """Check that the outputs of a command replace none of its inputs.

    Raises:
        UsageError: an output is an input, the file of a model, or another output.
    """
    from lenet_edge.artifacts.output_paths import Output, check_outputs

    outputs, inputs = [], []
    for param in ctx.command.params:
        paths = list(_paths_in(ctx.params.get(param.name or "")))
        kind, name = param.type, _name_of(param)
        if isinstance(kind, OutputFile):
            outputs += [Output(name, p, kind.suffixes, kind.written(p)) for p in paths]
        elif isinstance(kind, OutputFolder):
            outputs += [Output(name, p, (), kind.written, is_folder=True) for p in paths]
        elif isinstance(kind, (click.Path, PathOrName)):
            inputs += [(name, path) for path in paths]
    if outputs:
        check_outputs(outputs, inputs)


def _name_of(param: click.Parameter) -> str:
    return param.opts[-1] if isinstance(param, click.Option) else param.human_readable_name


def _paths_in(value: Any) -> Iterator[Path]:
    """Yield the paths in the value of a parameter; "-" stands for a standard stream."""
    if isinstance(value, (str, Path)):
        if not is_dash(value):
            yield Path(value)
    elif isinstance(value, Mapping):
        yield from _paths_in(tuple(value.values()))
    elif isinstance(value, tuple):
        for item in value:
            yield from _paths_in(item)


def is_dash(path: str | Path) -> bool:
    """Return whether a path is "-", which stands for standard input or output."""
    return str(path) == "-"
