"""Export of a .tflite file as it is to C: the file keeps its precision and its bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lenet_edge.artifacts.artifact import Artifact, batch_size_of
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.errors import UsageError
from lenet_edge.export import native
from lenet_edge.export.conversion import write_artifact
from lenet_edge.export.converter import PRECISIONS
from lenet_edge.export.native import text
from lenet_edge.selection import load_artifacts


def export_tflite(
    path: Path,
    output_dir: Path,
    formats: Sequence[str],
    precisions: Sequence[str] = ("float32",),
    stated: StatedInput = NOTHING_STATED,
    report: Callable[[Artifact], None] = lambda artifact: None,
    note: Callable[[str], None] = lambda line: None,
) -> list[Artifact]:
    """Write the C file of a .tflite file, and its header.

    Args:
        path: the .tflite file.
        output_dir: folder for the files; created if it does not exist.
        formats: must be "native" alone.
        precisions: must be "float32" alone, the default: the precision is that of the file.
        stated: the facts about the input that the user states.
        report: called with the artifact after it is written.
        note: called with messages for the user.

    Raises:
        UsageError: another format or a precision is chosen.
        ModelFileError: the file is damaged, or an operator is not covered.
    """
    if tuple(formats) != ("native",):
        raise UsageError(
            f"{path.name} is a .tflite file, which becomes C only; choose --format native, or"
            " export the float model"
        )
    if tuple(precisions) != ("float32",):
        raise UsageError(
            f"{path.name} keeps its precision; leave out {', '.join(precisions[1:])}, or export the"
            " float model"
        )
    name = text.identifier(path.stem)
    code = native.write_tflite(path.read_bytes(), name, path.name)
    (source,) = load_artifacts([path], output_dir, note, stated)
    is_known = source.precision in PRECISIONS
    precision = source.precision if is_known else ("int8" if code.has_integers else "float32")
    artifact = write_artifact(
        output_dir / f"{path.stem}_native.c",
        code.file(precision),
        inputs=code.inputs,
        outputs=code.outputs,
        precision=precision,
        batch_size=batch_size_of(code.inputs),
        parent_sha256=source.parent_sha256 or source.sha256,
        converter=native.CONVERTER,
        calibration=source.calibration,
        labels=source.labels,
        preprocessing=source.preprocessing,
        settings=source.settings,
        head=source.head,
    )
    native.write_header(artifact)
    report(artifact)
    return [artifact]
