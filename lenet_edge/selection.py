"""Which files, on which targets: what `verify` and `bench` both have to decide first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lenet_edge import formats, worker
from lenet_edge.artifacts.artifact import (
    Artifact,
    TensorSpec,
    check_format,
    describe,
    has_manifest,
    is_described,
    load_artifact,
)
from lenet_edge.errors import LenetEdgeError, ModelFileError, TargetError
from lenet_edge.results.result_file import Skipped
from lenet_edge.runtimes import (
    NOT_BY_DEFAULT,
    absence,
    all_targets,
    find_targets,
    get_target,
    is_installed,
    open_session,
)
from lenet_edge.runtimes._delegates import SHORTCUTS, find_library
from lenet_edge.runtimes._probe import probe as run_probe
from lenet_edge.support.html_table import html_table
from lenet_edge.target import Delegation, Target


@dataclass(frozen=True)
class Pair:
    """One file on one target."""

    artifact: Artifact
    target: Target


def load_artifacts(
    files: Sequence[Path], folder: Path, report: Callable[[str], None] = lambda what: None
) -> list[Artifact]:
    """Return the artifacts of `files`, or of every exported file in `folder` if there are none.

    A C file is a program, whatever its manifest says: in a folder it is left out, which `report`
    is told; it is built and run only where it is named.

    Raises:
        ModelFileError: a file cannot be used, or the folder holds no exported file.
    """
    if not files:
        found = sorted(
            path
            for path in (folder.iterdir() if folder.is_dir() else ())
            if path.suffix in formats.BY_SUFFIX and has_manifest(path)
        )
        files = [path for path in found if formats.BY_SUFFIX[path.suffix].role != "program"]
        for path in found:
            if path not in files:
                report(f"Left out {path}: a C file is a program, and is run only if it is named")
        if not files:
            raise ModelFileError(
                f"there are no exported files in {folder}; make them with: lenet-edge export"
            )
    return [load_artifact(path) if is_described(path) else _foreign(path) for path in files]


def _foreign(path: Path) -> Artifact:
    """Describe a file that says nothing of itself, by opening it on the first target that can.

    It takes images as they are (`pixel_scale` 1).
    """
    format = check_format(path)
    usual = [t for t in find_targets(format) if t.preference < NOT_BY_DEFAULT]
    reasons = []
    for target in usual:
        if absence(target):
            continue
        try:
            found = worker.run(read_tensors.bind(path, target.name).within(120))
        except LenetEdgeError as error:
            reasons.append(str(error))
            continue
        inputs, outputs = ([TensorSpec(**spec) for spec in found[side]] for side in ("in", "out"))
        return describe(
            path,
            precision="unknown",
            batch_size=inputs[0].shape[0],
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            parent_sha256=None,
            converter="unknown",
            calibration=None,
            pixel_scale=1.0,
        )
    if reasons:
        raise ModelFileError(f"{path} cannot be used: {reasons[0]}")
    names = dict.fromkeys(target.extra for target in usual if target.extra)
    extras = " or ".join(f"'lenet-edge[{name}]'" for name in names)
    raise ModelFileError(
        f"{path} has no manifest and no runtime that could read it; pip install {extras}"
    )


@worker.function
def read_tensors(path: Path, target: str) -> dict[str, Any]:
    """Return the fields of the input tensors ("in") and output tensors ("out") of a model file."""
    bare = describe(
        path, precision="unknown", batch_size=None, inputs=(), outputs=(),
        parent_sha256=None, converter="unknown", calibration=None,
    )  # fmt: skip
    with closing(open_session(bare, get_target(target))) as session:
        return {
            "in": [asdict(spec) for spec in session.inputs],
            "out": [asdict(spec) for spec in session.outputs],
        }


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
    pairs: list[Pair] = []
    skipped: list[Skipped] = []
    artifacts = list(artifacts)
    for target in _targets(names):
        fitting = [one for one in artifacts if one.format in target.formats]
        if not fitting:
            continue
        # A target that was named is tried: its own error says more than a look at the machine.
        named = target.name in names and is_installed(target)
        reason = None if named else absence(target)
        if reason:
            skipped.append(Skipped(target.name, reason))
        else:
            pairs += [Pair(artifact, target) for artifact in fitting]
    if not pairs and not skipped:
        raise TargetError(f"none of the files runs on {', '.join(names) or 'any target'}")
    order = {artifact.path: number for number, artifact in enumerate(artifacts)}
    return sorted(pairs, key=lambda pair: order[pair.artifact.path]), skipped


def select_pairs(
    artifacts: Iterable[Artifact],
    names: Sequence[str],
    delegate: str | None = None,
    options: Sequence[tuple[str, str]] = (),
    allow_fallback: bool = False,
) -> tuple[list[Pair], list[Skipped]]:
    """Do as `pair_up`, with an external delegate if one is named, and with or without fallback.

    `options` are for that delegate, or else for the execution providers of ONNX Runtime.

    Raises:
        TargetError: as `pair_up` and `with_delegate`; or there is nobody to take the options.
    """
    pairs, skipped = pair_up(artifacts, names)
    if delegate:
        pairs, skipped = with_delegate(pairs, delegate, options), []
    elif options:
        if not any(map(_takes_options, pairs)):
            raise TargetError(
                "--delegate-option is for an external delegate (--delegate) or a provider of ONNX"
                " Runtime (--target onnxruntime-webgpu, say), and none is asked for"
            )
        pairs = [
            replace(one, target=replace(one.target, options=tuple(options)))
            if _takes_options(one)
            else one
            for one in pairs
        ]
    if allow_fallback:
        pairs = [replace(one, target=replace(one.target, allow_fallback=True)) for one in pairs]
    return pairs, skipped


def _takes_options(pair: Pair) -> bool:
    return pair.target.runtime == "onnxruntime" and pair.target.delegate is not None


def with_delegate(
    pairs: Iterable[Pair], name: str, options: Sequence[tuple[str, str]] = ()
) -> list[Pair]:
    """Return the pairs that can load an external TFLite delegate, each with the one given.

    Args:
        pairs: those to choose from.
        name: the path of the delegate's library, or one of `SHORTCUTS`.
        options: what the delegate is created with.

    Raises:
        TargetError: none of the pairs can, or there is no such library for this machine.
    """
    library = find_library(name)
    short = name if name in SHORTCUTS else Path(library).name.split(".")[0]
    found: dict[tuple[Path, str], Pair] = {}
    for pair in pairs:
        runtime = pair.target.runtime
        if runtime in ("litert", "tflite-runtime") and pair.target.device == "cpu":
            target = replace(
                pair.target, name=f"{runtime}-{short}", delegate=short, library=library,
                options=tuple(options),
            )  # fmt: skip
            found.setdefault((pair.artifact.path, target.name), Pair(pair.artifact, target))
    if not found:
        raise TargetError(
            "external delegates are loaded by litert and tflite-runtime alone, for .tflite files;"
            " name one of them with --target"
        )
    return list(found.values())


def _targets(names: Sequence[str]) -> list[Target]:
    if not names:
        return [target for target in all_targets() if target.preference < NOT_BY_DEFAULT]
    chosen: dict[str, Target] = {}
    for name in names:
        found = find_targets(name)
        if name in formats.BY_NAME:
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
            reason = absence(target)
            if reason is None:
                status = probe_target(target)
                if status.works:
                    return target
                reason = status.detail
            reasons.append(f"{target.name}: {reason}")
    raise TargetError(f"no runtime for {format} files works here ({'; '.join(reasons)})")


@dataclass(frozen=True)
class TargetStatus:
    """Whether a target works on this machine; `detail` is its version, or why it does not.

    `delegation` says on what device it ran the probe model, where something was delegated.
    """

    target: Target
    works: bool
    detail: str
    delegation: Delegation | None = None

    def __repr__(self) -> str:
        works = "works" if self.works else "does not work"
        return f"TargetStatus({self.target.name!r} {works}: {self.detail})"

    def html_row(self) -> dict[str, str]:
        """Return the cells of a table; see `support.html_table`."""
        return {
            "target": self.target.name,
            "works": "yes" if self.works else "no",
            "runs": ", ".join(self.target.formats),
            "version, or the reason": self.detail,
        }

    def _repr_html_(self) -> str:
        return html_table([self.html_row()])


def probe_target(target: Target) -> TargetStatus:
    """Find out whether a target works here, by running a tiny model on it in a fresh process."""
    try:
        answer = worker.run(run_probe.bind(asdict(target)).within(120))
    except LenetEdgeError as error:
        return TargetStatus(target, False, str(error))
    delegation = Delegation.from_json(answer["delegation"])
    return TargetStatus(target, True, answer["runtime_version"], delegation)
