"""Check of the output paths of a command: none of them replaces an input or a model's files."""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_edge import formats
from lenet_edge.artifacts.artifact import manifest_path
from lenet_edge.artifacts.parts import part_paths
from lenet_edge.errors import ModelFileError, UsageError

_MODEL_SUFFIXES = "|".join(re.escape(suffix) for suffix in formats.BY_SUFFIX)
_MANIFEST_NAME = re.compile(rf".+({_MODEL_SUFFIXES})\.json", re.IGNORECASE)
_REFERENCE_NAME = re.compile(r"reference-[0-9a-f]{12}\.npz")


@dataclass(frozen=True)
class Output:
    """Path that a command writes to, as the option `option` gives it.

    Attributes:
        option: the option, such as ``--json``.
        path: the file, or the folder for several files.
        suffixes: the usual suffixes of such a file.
        written: patterns of other files that the command writes, as `fnmatch` reads them. They
            are relative to the folder of a file, or to the path of a folder.
        is_folder: True if the command creates files with names of its own in `path`.
    """

    option: str
    path: Path
    suffixes: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    is_folder: bool = False

    def writes(self, path: Path) -> bool:
        """Return whether the command writes `path` because of this option."""
        if not self.is_folder and _is_same_file(self.path, path):
            return True
        folder = os.path.realpath(self.path if self.is_folder else self.path.parent)
        name = os.path.relpath(os.path.realpath(path), folder)
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.written):
            return True
        return self.is_folder and _has_link_to(self.path, path)


def check_outputs(outputs: Sequence[Output], inputs: Iterable[tuple[str, Path]]) -> None:
    """Check that no output is an input, another output, or the file of a model.

    Args:
        outputs: the outputs of a command.
        inputs: the files and folders that the command reads, each with the name of its option;
            "" for no name.

    Raises:
        UsageError: an output would replace such a file.
    """
    inputs = list(inputs)
    for output in outputs:
        if _is_character_device(output.path):  # such as /dev/null, which holds nothing
            continue
        for name, path in inputs:
            _check_input(output, name, path)
        if not output.is_folder:
            _check_name(output)
    for first, second in itertools.permutations(outputs, 2):
        if second.is_folder or _is_character_device(second.path):
            continue
        if first.writes(second.path):
            raise UsageError(
                f"{first.option} and {second.option} both write {second.path}; name two files"
            )


def _check_name(output: Output) -> None:
    """Check that an output is not named like a file that only `train` and `export` write.

    Raises:
        UsageError: it is, or it is a link to such a file.
    """
    for path in (output.path, Path(os.path.realpath(output.path))):
        if formats.format_of(path) and path.suffix not in output.suffixes:
            description = "a model file"
        elif _MANIFEST_NAME.fullmatch(path.name):
            description = "the manifest of a model file"
        elif _REFERENCE_NAME.fullmatch(path.name):
            description = "the recorded logits of a model"
        elif model := _model_with_part(path):
            description = f"a part of the model {model.name}"
        else:
            continue
        usual = f"a {' or '.join(output.suffixes)}" if output.suffixes else "another"
        raise UsageError(
            f"{output.option} {output.path} is the name of {description}; name {usual} file"
        )


def _model_with_part(path: Path) -> Path | None:
    """Return the model file in the folder of a file that has the file as a part."""
    if not path.is_file():
        return None
    for row in formats.FORMATS:
        for model in path.parent.glob(f"*{row.suffix}") if row.parts else ():
            if any(_is_same_file(part, path) for part in _parts(model)):
                return model
    return None


def _parts(path: Path) -> list[Path]:
    if path.is_file():
        with contextlib.suppress(ModelFileError, OSError, ValueError):  # empty or damaged
            return part_paths(path)
    return []


def _check_input(output: Output, name: str, path: Path) -> None:
    """Check that an output does not replace an input, its manifest, its parts, or a file in it.

    Raises:
        UsageError: it does.
    """
    of_option = f" ({name})" if name else ""
    described = [path]
    if formats.format_of(path):
        described += [manifest_path(path), *_parts(path)]
    for file in described:
        if output.writes(file) and not file.is_dir():
            raise UsageError(
                f"{output.option} {output.path} would replace the input {file}{of_option}; name"
                f" another {'folder' if output.is_folder else 'file'}"
            )
    if output.is_folder or output.path.suffix in output.suffixes or not path.is_dir():
        return
    end = Path(os.path.realpath(output.path))
    if end.is_file() and end.is_relative_to(os.path.realpath(path)):
        raise UsageError(
            f"{output.option} {output.path} is a file in the input {path}{of_option}; name another"
            " file"
        )


def _has_link_to(folder: Path, path: Path) -> bool:
    """Return whether a folder has a link of another name to `path`, which a write would follow."""
    try:
        links = [entry.path for entry in os.scandir(folder) if entry.is_symlink()]
    except OSError:  # the folder does not exist yet
        return False
    return any(
        os.path.basename(link) != path.name and _is_same_file(Path(link), path) for link in links
    )


def _is_same_file(first: Path, second: Path) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)


def _is_character_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except OSError:
        return False
