"""Which files, on which targets: what `verify` and `bench` both have to decide first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge import worker
from lenet_edge.artifact import FORMATS, Artifact, load_artifact, manifest_path
from lenet_edge.errors import LenetEdgeError, ModelFileError, TargetError
from lenet_edge.results import Skipped
from lenet_edge.runtimes import all_targets, find_targets, is_installed
from lenet_edge.target import Target

# Targets at or above this preference run only when they are named: the reference kernels and null.
NOT_BY_DEFAULT = 90


@dataclass(frozen=True)
class Pair:
    """One file on one target."""

    artifact: Artifact
    target: Target


def load_files(files: Sequence[Path], folder: Path) -> list[Artifact]:
    """Return the artifacts of `files`, or of every exported file in `folder` if there are none.

    Raises:
        ModelFileError: a file cannot be used, or the folder holds no exported file.
    """
    if not files:
        files = sorted(
            path
            for path in (folder.iterdir() if folder.is_dir() else ())
            if path.suffix in FORMATS and manifest_path(path).exists()
        )
        if not files:
            raise ModelFileError(
                f"there are no exported files in {folder}; make them with: lenet-edge export"
            )
    return [load_artifact(path) for path in files]


def pair_up(
    artifacts: Iterable[Artifact], names: Sequence[str]
) -> tuple[list[Pair], list[Skipped]]:
    """Join each file with the targets to run it on.

    Args:
        artifacts: the files.
        names: targets, runtimes, or formats ("tflite": the best runtime that works here).
            None of them means every usual target of the file's format.

    Returns:
        The pairs to run, and what cannot run here, with the reason.

    Raises:
        TargetError: a name is unknown, or no file fits the targets that were named.
    """
    wanted = _targets(names)
    pairs: list[Pair] = []
    skipped: list[Skipped] = []
    fits = False
    for artifact in artifacts:
        for target in wanted:
            if artifact.format not in target.formats:
                continue
            fits = True
            if is_installed(target):
                pairs.append(Pair(artifact, target))
            else:
                reason = f"{target.package} is not installed"
                skipped.append(Skipped(target.name, reason, artifact.name))
    if not fits:
        raise TargetError(f"none of the files runs on {', '.join(names) or 'any target'}")
    return pairs, skipped


def _targets(names: Sequence[str]) -> list[Target]:
    if not names:
        return [target for target in all_targets() if target.preference < NOT_BY_DEFAULT]
    chosen: dict[str, Target] = {}
    for name in names:
        found = find_targets(name)
        if name in FORMATS.values():
            found = (best_target(name),)
        elif len(found) > 1:
            found = tuple(t for t in found if t.preference < NOT_BY_DEFAULT)
        chosen.update((target.name, target) for target in found)
    return list(chosen.values())


def best_target(format: str) -> Target:
    """Return the preferred target for a format that gives the right answer on this machine.

    Raises:
        TargetError: none does.
    """
    reasons = []
    for target in find_targets(format):
        if target.preference < NOT_BY_DEFAULT:
            status = probe(target)
            if status.works:
                return target
            reasons.append(f"{target.name}: {status.detail}")
    raise TargetError(f"no runtime for {format} files works here ({'; '.join(reasons)})")


@dataclass(frozen=True)
class Status:
    """Whether a target works on this machine; `detail` is its version, or why it does not."""

    target: Target
    works: bool
    detail: str


def probe(target: Target) -> Status:
    """Find out whether a target works here, by running a tiny model on it in a fresh process."""
    try:
        answer: dict[str, Any] = worker.call("runtimes._probe:probe", 120, target=target.name)
    except LenetEdgeError as error:
        return Status(target, False, str(error))
    return Status(target, True, answer["runtime_version"])
