"""Selection of artifacts and targets, and their combination to the pairs that a command runs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lenet_edge import formats, worker
from lenet_edge.artifacts.artifact import Artifact, has_manifest, is_described, load_artifact
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.artifacts.parts import part_paths
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.errors import LenetEdgeError, ModelFileError, StaleManifestError, TargetError
from lenet_edge.extras import host_command
from lenet_edge.foreign_file import describe_foreign
from lenet_edge.results.formatting import name_some
from lenet_edge.results.result_file import Skipped
from lenet_edge.runtimes import (
    NOT_BY_DEFAULT,
    absence,
    all_targets,
    find_targets,
    get_target,
    is_installed,
    refusal,
)
from lenet_edge.runtimes._delegates import SHORTCUTS, find_library
from lenet_edge.runtimes._probe import probe as run_probe
from lenet_edge.support.html_table import html_table
from lenet_edge.target import DEFAULT_DELEGATE, Delegation, Target


@dataclass(frozen=True)
class Pair:
    """One artifact on one target."""

    artifact: Artifact
    target: Target


def load_artifacts(
    files: Sequence[Path],
    folder: Path,
    note: Callable[[str], None] = lambda line: None,
    stated: StatedInput = NOTHING_STATED,
    describe_again: bool = False,
) -> list[Artifact]:
    """Load artifacts by their paths, or all exported files of a folder.

    A C file is a program. It runs only if `files` names it: in a folder it is skipped, whatever its
    manifest says.

    Args:
        files: the paths of model files; empty selects the files in `folder` that have a manifest.
            Manifests, references, C headers and parts of other files are skipped, because a
            shell's ``out/*`` names them too.
        folder: the folder to search if `files` is empty.
        note: called with a line of text for each skipped file, and for each tested preprocessing.
        stated: the facts about the inputs that the user states.
        describe_again: describe a file anew if its manifest is that of an earlier content.

    Raises:
        ModelFileError: a file cannot be loaded, or the folder has no exported file.
    """
    if not files:
        paths = sorted(
            path
            for path in (folder.iterdir() if folder.is_dir() else ())
            if formats.format_of(path) and has_manifest(path)
        )
        files = [path for path in paths if formats.BY_SUFFIX[path.suffix.lower()].role != "program"]
        programs = [path.name for path in paths if path not in files]
        if programs:
            names = name_some(programs, 2)
            note(f"Left out {names}: a C file is a program; give its path to run it")
        if not files:
            raise ModelFileError(
                f"there are no exported files in {folder}; create them with:"
                f" {host_command('lenet-edge export')}"
            )
    if len(files) > 1:
        parts = {part for path in files if path.is_file() for part in part_paths(path)}
        files = [path for path in files if not (path in parts or _is_companion(path))]
    return [_load(path, stated, note, describe_again) for path in files]


def _load(
    path: Path, stated: StatedInput, note: Callable[[str], None], describe_again: bool
) -> Artifact:
    if is_described(path):
        try:
            return stated.describe(load_artifact(path))
        except StaleManifestError:
            # A contract says that lenet-edge exported the file, so its manifest must fit.
            if not describe_again or read_contract(path, check_format(path)) is not None:
                raise
    return describe_foreign(path, stated, note)


def _is_companion(path: Path) -> bool:
    """Return True for a file that `export` writes beside a model file."""
    model = path.with_suffix("")
    return (
        (path.suffix == ".json" and formats.format_of(model) is not None and model.is_file())
        or (path.suffix == ".h" and path.with_suffix(".c").is_file())
        or bool(re.fullmatch(r"reference-[0-9a-f]{12}\.npz", path.name))
    )


def pair_up(
    artifacts: Iterable[Artifact], names: Sequence[str]
) -> tuple[list[Pair], list[Skipped]]:
    """Combine each artifact with the targets that run it.

    Args:
        artifacts: the artifacts.
        names: names of targets, runtimes or formats. A format means the best runtime for it that
            works on this machine. An empty sequence means all default targets.

    Returns:
        The pairs to run; and the targets that are not available, or that refuse a file, with the
        reason.

    Raises:
        TargetError: a name is unknown, or no artifact has a format of the named targets.
    """
    pairs: list[Pair] = []
    skipped: list[Skipped] = []
    artifacts = list(artifacts)
    for target in _targets(names):
        fitting = []
        for artifact in artifacts:
            if why := refusal(artifact, target):
                skipped.append(Skipped(target.name, why, artifact.name))
            elif artifact.format in target.formats:
                fitting.append(artifact)
        if not fitting:
            continue
        # Try a named target even if it seems absent, because its own error is more specific.
        named = target.name in names and is_installed(target)
        reason = None if named else absence(target)
        if reason:
            skipped.append(Skipped(target.name, reason))
        else:
            pairs += [Pair(artifact, target) for artifact in fitting]
    if not pairs and not skipped:
        raise TargetError(
            f"none of the files runs on {', '.join(names) or 'any target'}; see lenet-edge targets"
        )
    order = {artifact.path: number for number, artifact in enumerate(artifacts)}
    return sorted(pairs, key=lambda pair: order[pair.artifact.path]), skipped


def find_unused(
    artifacts: Iterable[Artifact],
    ran: Collection[tuple[str, str]],
    skipped: Sequence[Skipped],
    names: Sequence[str] = (),
    all_files: bool = True,
) -> dict[str, str]:
    """Return the files that ran on no target, or else the named targets that ran no file.

    Without `all_files`, files count only if nothing ran: a folder may have files of runtimes that
    this machine lacks.

    Args:
        artifacts: the files.
        ran: the pairs that ran, each as sha256 of the file and name of the target.
        skipped: the targets and pairs that did not run.
        names: names of targets, as `pair_up` takes them.
        all_files: whether each file should have run, because the user named it.

    Returns:
        The first reason, with its fix, by the name of the file or target.
    """
    unused = {}
    used_files, used_targets = {sha256 for sha256, _ in ran}, {target for _, target in ran}
    for artifact in artifacts if all_files or not ran else ():
        if artifact.sha256 not in used_files:
            reasons = (
                skip.reason
                for skip in skipped
                if skip.artifact == artifact.name
                or (skip.artifact is None and artifact.format in get_target(skip.target).formats)
            )
            other = f"{', '.join(names)} runs no {artifact.format} files; name another --target"
            unused[artifact.name] = next(reasons, other)
    if unused:
        return unused
    reason_of = {skip.target: skip.reason for skip in reversed(skipped)}
    for name in names:
        family = [t.name for t in all_targets() if name in (t.name, t.runtime, *t.formats)]
        reason = next((reason_of[target] for target in family if target in reason_of), None)
        if reason and not used_targets.intersection(family):
            unused[name] = reason
    return unused


def is_known_absent(name: str) -> bool:
    """Return True if a target of this name is known not to run on this machine."""
    try:
        return absence(get_target(name)) is not None
    except TargetError:  # a target with an external delegate has a name of its own
        return False


def select_pairs(
    artifacts: Iterable[Artifact],
    names: Sequence[str],
    delegate: str | None = None,
    options: Sequence[tuple[str, str]] = (),
    allow_fallback: bool = False,
) -> tuple[list[Pair], list[Skipped]]:
    """Combine artifacts with targets as `pair_up`, and apply the options for delegates.

    Args:
        artifacts: the artifacts.
        names: see `pair_up`.
        delegate: an external TFLite delegate, see `with_delegate`; None for none.
        options: options of that delegate, or of the execution providers of ONNX Runtime.
        allow_fallback: whether a delegate may leave nodes to the CPU.

    Raises:
        TargetError: see `pair_up` and `with_delegate`; or no pair accepts the options.
    """
    pairs, skipped = pair_up(artifacts, names)
    if delegate:
        pairs, skipped = with_delegate(pairs, delegate, options), []
    elif options:
        if not any(map(_takes_options, pairs)):
            raise TargetError(
                "--delegate-option is for an external delegate (--delegate) or a provider of ONNX"
                " Runtime (such as --target onnxruntime-webgpu); add one of them"
            )
        pairs = [
            replace(pair, target=replace(pair.target, options=tuple(options)))
            if _takes_options(pair)
            else pair
            for pair in pairs
        ]
    if allow_fallback:
        pairs = [replace(pair, target=replace(pair.target, allow_fallback=True)) for pair in pairs]
    return pairs, skipped


def _takes_options(pair: Pair) -> bool:
    return pair.target.runtime == "onnxruntime" and pair.target.delegate is not None


def with_delegate(
    pairs: Iterable[Pair], name: str, options: Sequence[tuple[str, str]] = ()
) -> list[Pair]:
    """Select the pairs that can load an external TFLite delegate, and add it to their targets.

    Args:
        pairs: the pairs to select from.
        name: the path of the delegate's library, or a key of `SHORTCUTS`.
        options: keys and values to create the delegate with.

    Raises:
        TargetError: no pair can load a delegate, or the library is missing or for another machine.
    """
    library = find_library(name)
    short = name if name in SHORTCUTS else Path(library).name.split(".")[0]
    if short == DEFAULT_DELEGATE:  # only the interpreter's own delegate may have this name
        short = f"external-{short}"
    delegated: dict[tuple[Path, str], Pair] = {}
    for pair in pairs:
        runtime = pair.target.runtime
        if runtime in ("litert", "tflite-runtime") and pair.target.device == "cpu":
            target = replace(
                pair.target, name=f"{runtime}-{short}", delegate=short, library=library,
                options=tuple(options),
            )  # fmt: skip
            delegated.setdefault((pair.artifact.path, target.name), Pair(pair.artifact, target))
    if not delegated:
        raise TargetError(
            "only litert and tflite-runtime load external delegates, for .tflite files; name one of"
            " them with --target"
        )
    return list(delegated.values())


def _targets(names: Sequence[str]) -> list[Target]:
    if not names:
        return [target for target in all_targets() if target.preference < NOT_BY_DEFAULT]
    chosen: dict[str, Target] = {}
    for name in names:
        targets = find_targets(name)
        if name in formats.BY_NAME:
            targets = (best_target(name),)
        elif len(targets) > 1:
            usual = tuple(t for t in targets if t.preference < NOT_BY_DEFAULT)
            targets = usual or targets
        chosen.update((target.name, target) for target in targets)
    return list(chosen.values())


def best_target(format: str) -> Target:
    """Find the preferred target of a format that works on this machine.

    Args:
        format: the name of a format.

    Raises:
        TargetError: no target of the format works; the message has the reason for each.
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
    raise TargetError(
        f"no runtime for {format} files works on this machine ({'; '.join(reasons)}); see"
        " lenet-edge doctor"
    )


@dataclass(frozen=True)
class TargetStatus:
    """Result of a probe of a target on this machine.

    Attributes:
        target: the target.
        works: whether the target ran the probe model with the right result.
        detail: version of the runtime, or the reason why the target does not work.
        delegation: nodes and device of the delegate; None if the target has no delegate.
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
    """Test a target on this machine, by running the small probe model on it in a worker."""
    return next(probe_in_one_worker([target]))


def probe_in_one_worker(targets: Iterable[Target]) -> Iterator[TargetStatus]:
    """Test targets one after another in a worker; after a failure, the next gets a new worker.

    Targets of one runtime share its import, which takes five seconds for TensorFlow.
    """
    with contextlib.closing(worker.LastingWorker()) as process:
        for target in targets:
            yield _probe(target, process)


def _probe(target: Target, process: worker.LastingWorker) -> TargetStatus:
    try:
        result = process.run(run_probe.bind(asdict(target)).within(120))
    except LenetEdgeError as error:
        return TargetStatus(target, False, str(error))
    delegation = Delegation.from_json(result["delegation"])
    return TargetStatus(target, True, result["runtime_version"], delegation)
