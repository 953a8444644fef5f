"""The runtimes, one file each, found by file name.

A runtime file has `TARGETS`, the ways it can run a model, and
``open_session(artifact, target, num_threads) -> Session``. Its vendor's package is imported
inside that function only, so that listing the targets costs nothing and needs nothing.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import pkgutil
from types import ModuleType
from typing import cast

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import MissingPackageError, TargetError
from lenet_edge.target import Session, Target

# Targets at or above this preference run only when they are named: the reference kernels and null.
NOT_BY_DEFAULT = 90


@functools.cache
def all_targets() -> tuple[Target, ...]:
    """Return every target of every runtime file, the preferred ones first."""
    found: list[Target] = []
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_") and not module.ispkg:
            found += importlib.import_module(f"{__name__}.{module.name}").TARGETS
    return tuple(sorted(found, key=lambda target: (target.preference, target.name)))


def find_targets(name: str) -> tuple[Target, ...]:
    """Return the targets that `name` (a target, a runtime or a format) stands for.

    Raises:
        TargetError: nothing has that name; the message suggests near ones.
    """
    exact = tuple(target for target in all_targets() if target.name == name)
    if exact:
        return exact
    family = tuple(t for t in all_targets() if t.runtime == name or name in t.formats)
    if family:
        return family
    names = {t.name for t in all_targets()} | {t.runtime for t in all_targets()}
    names |= {format for t in all_targets() for format in t.formats}
    near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "see them with: lenet-edge targets"
    raise TargetError(f"unknown target {name!r}; {hint}")


def get_target(name: str) -> Target:
    """Return the one target with exactly this name.

    Raises:
        TargetError: no target has it.
    """
    for target in all_targets():
        if target.name == name:
            return target
    raise TargetError(f"unknown target {name!r}; see them with: lenet-edge targets")


def is_installed(target: Target) -> bool:
    """Tell whether the target's package can be found, which does not prove that it works."""
    if not target.package:
        return True
    return importlib.util.find_spec(target.package.split(".")[0]) is not None


def absence(target: Target) -> str | None:
    """Return why a target cannot be here, as far as can be told without opening a session.

    A runtime file may have a function of this name, for devices and drivers; None promises nothing.
    """
    if not is_installed(target):
        return str(MissingPackageError(target.package, target.extra))
    reason: str | None = getattr(_module(target), "absence", lambda target: None)(target)
    return reason


def open_session(artifact: Artifact, target: Target, num_threads: int = 1) -> Session:
    """Open a model file on a target.

    Args:
        artifact: the file.
        target: one of `all_targets()`.
        num_threads: threads that one inference may use.

    Raises:
        TargetError: the target cannot run this file, or not on this machine.
        MissingPackageError: its package is not installed.
    """
    if artifact.format not in target.formats:
        raise TargetError(
            f"{target.name} runs {' and '.join(target.formats)} files, and {artifact.name} is"
            f" {artifact.format}; choose another target with --target"
        )
    if not is_installed(target):
        raise MissingPackageError(target.package, target.extra)
    try:
        return cast(Session, _module(target).open_session(artifact, target, num_threads))
    except TargetError:
        raise
    except Exception as error:  # each vendor raises its own kinds
        raise TargetError(
            f"{target.name} cannot open {artifact.path}: {one_line(error)}"
        ) from error


def _module(target: Target) -> ModuleType:
    return importlib.import_module(f"{__name__}.{target.runtime.replace('-', '_')}")


def one_line(error: BaseException) -> str:
    """Return an exception as one line, with its type where it has no text of its own."""
    return " ".join(str(error).split()) or type(error).__name__
