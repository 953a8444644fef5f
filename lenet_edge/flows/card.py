"""Write the model card beside the files that the results are of, and check a card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.reference import Reference, find_reference
from lenet_edge.errors import DataError, LenetEdgeError, ModelFileError, TargetError
from lenet_edge.extras import pip_command
from lenet_edge.report.card import render_card
from lenet_edge.report.card_metadata import FILES_KEY, CardFile, is_unedited
from lenet_edge.report.page import Report
from lenet_edge.selection import load_artifacts
from lenet_edge.support.files import atomic_write, sha256_of

NAME = "README.md"
_MAX_BYTES = 2**22


def write_card(
    report: Report,
    folders: Sequence[Path],
    output: Path | None,
    license: str | None,
    force: bool,
    note: Callable[[str], None],
) -> Path:
    """Write the card of the results of a report, and return its path.

    Args:
        report: the report.
        folders: folders to look for the model files in; the first with one of them is used.
        output: the card; None means README.md beside the files.
        license: the license of the model; None if it is not known.
        force: replace a file that is no card, or a card that somebody has edited.
        note: called with a line of text for each file that is left out.

    Raises:
        ModelFileError: no folder has a model file of the results.
        LenetEdgeError: the file exists and is no card, or was edited.
        MissingPackageError: Jinja2 is not installed.
    """
    names = {
        sha256: name
        for machine in report.machines
        for sha256, name in (
            *((cell.artifact_sha256, cell.artifact) for cell in machine.run.measurements),
            *((each.candidate_sha256, each.candidate) for each in machine.run.parity),
        )
    }
    folder, paths = _find_files(names, folders)
    path = folder / NAME if output is None else output
    if path.is_file() and not force and not is_unedited(_read(path)):
        raise LenetEdgeError(
            f"{path} is no card of lenet-edge, or was edited since; name another file with"
            " --output FILE.md, or replace it with --force"
        )
    missing = sorted(set(names.values()) - {file.name for file in paths})
    if missing:
        note(f"Left out {', '.join(missing)}: not in {folder} as in the results")
    artifacts = load_artifacts(paths, folder, note)
    files = [_card_file(artifact) for artifact in artifacts]
    title = _title(artifacts)
    with atomic_write(path) as temporary:
        text = render_card(report.machines, files, title, license)
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def _find_files(names: dict[str, str], folders: Sequence[Path]) -> tuple[Path, list[Path]]:
    """Return the first folder with a file of the results, and the paths of all such files in it."""
    for folder in dict.fromkeys(folders):
        paths = sorted({folder / name for name in names.values() if Path(name).name == name})
        unchanged = [path for path in paths if path.is_file() and sha256_of(path) in names]
        if unchanged:
            return folder, unchanged
    places = " or ".join(map(str, dict.fromkeys(folders)))
    raise ModelFileError(
        f"no file of the results is in {places}, or they have changed; name the folder with"
        " --models DIR"
    )


def _title(artifacts: Sequence[Artifact]) -> str:
    """Return the name of the checkpoint among some files, or else of the first file."""
    parents = {artifact.parent_sha256 for artifact in artifacts}
    first = next((each for each in artifacts if each.sha256 in parents), artifacts[0])
    return first.path.stem


def _card_file(artifact: Artifact) -> CardFile:
    checkpoint, path = find_reference(artifact)
    if not path.is_file():
        return CardFile(artifact)
    record = Reference.load(path)
    name = f"checkpoint {checkpoint[:12]}"
    return CardFile(artifact, record.dataset, len(record.logits), name)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise DataError(f"{path} has more than {_MAX_BYTES:,} bytes, so it is no model card")
        return content.decode("utf-8", "replace")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def check_card(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read the metadata of a model card as the hub of Hugging Face does.

    Returns:
        The facts of the card, and its faults as phrases.

    Raises:
        DataError: the file cannot be read.
        TargetError: huggingface_hub is not installed.
    """
    text = _read(path)
    try:
        from huggingface_hub import ModelCard
    except ImportError:
        raise TargetError(
            f"huggingface_hub is not installed; install it with: {pip_command('huggingface_hub')}"
        ) from None
    if not text.startswith("---\n"):
        return {}, ["it does not start with metadata between two lines of ---"]
    try:
        data = ModelCard(text, ignore_metadata_errors=False).data
    except Exception as error:  # of YAML, and of the reader
        reason, _, _ = " ".join(str(error).split()).partition(". Pass `ignore")  # advice for code
        return {}, [reason.rstrip(".")]
    facts, faults = data.to_dict(), []
    # The values may be anything, also a few aliases that stand for gigabytes.
    stated = {name: facts.get(name) for name in ("license", "library_name", "pipeline_tag")}
    for name, value in stated.items():
        if isinstance(value, list) and len(value) < 9 and all(isinstance(v, str) for v in value):
            stated[name] = ", ".join(value)
        elif not isinstance(value, str | None):
            faults.append(f"{name} is no text")
            stated[name] = None
    files = facts.get(FILES_KEY, {})
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files):
        faults.append(f"{FILES_KEY} is no table of files")
        files = {}
    for name, sha256 in files.items():
        file = path.parent / Path(name).name
        if not file.is_file():
            faults.append(f"{name} is not beside it")
        elif sha256_of(file) != sha256:
            faults.append(f"{name} has changed since the card was written")
    return {
        **stated,
        "num_results": len(data.eval_results or ()),
        "files": list(files),
        "unedited": is_unedited(text),
    }, faults
