"""Runtimes: one module per runtime, discovered by file name.

A runtime module imports its vendor's package only inside `open_session`. So listing the targets is
cheap and needs no package. `RuntimeModule` is the interface; `DetectsAbsence`, `RefusesFiles` and
`IsDeployable` are optional parts of it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import MissingPackageError, TargetError
from lenet_edge.support.spelling import did_you_mean
from lenet_edge.target import Session, Target

# Targets with at least this preference run only if they are named: reference kernels and null.
NOT_BY_DEFAULT = 90


@dataclass(frozen=True)
class Deployable:
    """Facts that `deploy` and `bundle` need to install a runtime on a board.

    Attributes:
        name: the name after ``--runtime``, and the extra of pyproject.toml that installs the
            runtime.
        target: name of the target that the board is verified and measured on.
        distribution: the name of its package in the package index. None: it needs no package.
        rank: `deploy` chooses the lowest rank that has a wheel for the board.
    """

    name: str
    target: str
    distribution: str | None
    rank: int


class RuntimeModule(Protocol):
    """A module of this package that runs models."""

    @property
    def TARGETS(self) -> tuple[Target, ...]:
        """The targets that the runtime offers."""

    def open_session(self, artifact: Artifact, target: Target, num_threads: int) -> Session:
        """Open a model file on one of `TARGETS`.

        Raises:
            TargetError: the target cannot run the file. `runtimes.open_session` turns any other
                exception into this one.
        """


class DetectsAbsence(Protocol):
    """A runtime module that can detect a missing device or driver without opening a session."""

    def absence(self, target: Target) -> str | None:
        """Return why a target cannot run on this machine; None if nothing is known to be missing.

        The text names the fix too: "there is no NPU; install its driver".
        """


class RefusesFiles(Protocol):
    """A runtime module that knows of files that it cannot run, without opening them."""

    def refusal(self, artifact: Artifact, release: str | None) -> str | None:
        """Return why the runtime cannot run a file; None if nothing is known against it.

        A file of another format is refused too, if users may expect the runtime to read it.

        Args:
            artifact: the file.
            release: the release of the runtime; None for that of the installed package.
        """


class IsDeployable(Protocol):
    """A runtime module that `deploy` can bring to a board."""

    @property
    def DEPLOYABLE(self) -> Deployable:
        """The facts for the deployment."""


@functools.cache
def _modules() -> tuple[RuntimeModule, ...]:
    return tuple(
        _import(module.name)
        for module in pkgutil.iter_modules(__path__)
        if not module.name.startswith("_") and not module.ispkg
    )


def _import(name: str) -> RuntimeModule:
    module: RuntimeModule = importlib.import_module(f"{__name__}.{name}")
    return module


def _module(target: Target) -> RuntimeModule:
    return _import(target.runtime.replace("-", "_"))


@functools.cache
def all_targets() -> tuple[Target, ...]:
    """Return the targets of all runtimes, in the order of their preference."""
    targets = [target for module in _modules() for target in module.TARGETS]
    return tuple(sorted(targets, key=lambda target: (target.preference, target.name)))


@functools.cache
def deployables() -> tuple[Deployable, ...]:
    """Return the runtimes that can be deployed to a board, the best first."""
    declared = [getattr(module, "DEPLOYABLE", None) for module in _modules()]
    return tuple(sorted(filter(None, declared), key=lambda deployable: deployable.rank))


def get_deployable(name: str) -> Deployable:
    """Return the deployable runtime with exactly this name.

    Raises:
        TargetError: no runtime has it.
    """
    for deployable in deployables():
        if deployable.name == name:
            return deployable
    names = ", ".join(deployable.name for deployable in deployables())
    raise TargetError(f"unknown runtime {name!r}; choose one of {names}")


def find_targets(name: str) -> tuple[Target, ...]:
    """Return the targets that `name` (a target, a runtime or a format) stands for.

    Raises:
        TargetError: nothing has that name; the message suggests similar names.
    """
    exact = _find_exact(name)
    if exact:
        return (exact,)
    family = tuple(t for t in all_targets() if t.runtime == name or name in t.formats)
    if family:
        return family
    names = {t.name for t in all_targets()} | {t.runtime for t in all_targets()}
    names |= {format for t in all_targets() for format in t.formats}
    hint = did_you_mean(name, names, cutoff=0.5) or "list: lenet-edge targets"
    raise TargetError(f"unknown target {name!r}; {hint}")


def get_target(name: str) -> Target:
    """Return the target with exactly this name.

    Raises:
        TargetError: no target has it.
    """
    target = _find_exact(name)
    if target:
        return target
    raise TargetError(f"unknown target {name!r}; list: lenet-edge targets")


def _find_exact(name: str) -> Target | None:
    """Return the target with exactly this name, or with this name and a parameter."""
    base, colon, parameter = name.partition(":")
    for target in all_targets():
        if target.name == name:
            return target
        if target.name == base and target.parameter and colon and parameter:
            return dataclasses.replace(target, name=name)
    return None


def is_installed(target: Target) -> bool:
    """Tell whether the target's package can be found, which does not prove that it works."""
    if not target.package:
        return True
    return importlib.util.find_spec(target.package.split(".")[0]) is not None


def absence(target: Target) -> str | None:
    """Return why a target cannot run on this machine, as far as known without opening a session.

    None means only that nothing is known to be missing.
    """
    if not is_installed(target):
        return str(MissingPackageError(target.package, target.extra))
    detect: Callable[[Target], str | None] | None = getattr(_module(target), "absence", None)
    return detect(target) if detect else None


def refusal(artifact: Artifact, target: Target, release: str | None = None) -> str | None:
    """Return why a target cannot run a file, as far as known without opening the file.

    None means only that nothing is known against it. `Target.formats` has the formats that it runs.

    Args:
        artifact: the file.
        target: the target.
        release: the release of the runtime; None for that of the installed package.
    """
    refuse: Callable[[Artifact, str | None], str | None] | None
    refuse = getattr(_module(target), "refusal", None)
    return refuse(artifact, release) if refuse else None


def open_session(artifact: Artifact, target: Target, num_threads: int = 1) -> Session:
    """Open a model file on a target.

    Args:
        artifact: the file.
        target: one of `all_targets()`.
        num_threads: the number of threads that one inference may use.

    Raises:
        TargetError: the target cannot run this file, or not on this machine.
        MissingPackageError: the package of the runtime is not installed.
    """
    if artifact.format not in target.formats:
        raise TargetError(
            f"{target.name} runs {' and '.join(target.formats)} files, and {artifact.name} is"
            f" {artifact.format}; choose another target with --target"
        )
    if not is_installed(target):
        raise MissingPackageError(target.package, target.extra)
    try:
        return _module(target).open_session(artifact, target, num_threads)
    except TargetError:
        raise
    except Exception as error:  # each vendor raises its own types
        raise TargetError(
            f"{target.name} cannot open {artifact.path}: {one_line(error)}"
        ) from error


def one_line(error: BaseException) -> str:
    """Return an exception's text as one line; its type if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
