"""Export of a .tflite file as it is to C: the file keeps its precision and its bits."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, batch_size_of, load_artifact
from lenet_edge.artifacts.reference import find_reference
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.data.evaluation_images import evaluation_images, has_test_images
from lenet_edge.errors import ModelFileError, UsageError
from lenet_edge.export import firmware, native
from lenet_edge.export.artifact_writer import write_artifact
from lenet_edge.export.converter import PRECISIONS
from lenet_edge.export.firmware import FirmwareBoard
from lenet_edge.export.native import text
from lenet_edge.model_inputs import random_inputs
from lenet_edge.runtimes import absence, get_target, open_session
from lenet_edge.runtimes.litert import open_reference_kernels
from lenet_edge.selection import load_artifacts
from lenet_edge.support.files import atomic_write
from lenet_edge.support.temporary import temporary_folder

_NUM_INPUTS = 20
_BUILD_TIMEOUT_S = 300


def export_tflite(
    path: Path,
    output_dir: Path,
    formats: Sequence[str],
    precisions: Sequence[str] = ("float32",),
    stated: StatedInput = NOTHING_STATED,
    report: Callable[[Artifact], None] = lambda artifact: None,
    note: Callable[[str], None] = lambda line: None,
    board: FirmwareBoard | None = None,
) -> list[Artifact]:
    """Write the C file of a .tflite file, and its header.

    A file with integers is first compared with LiteRT's reference kernels, byte for byte. The
    recorded reference logits of a file are copied, so that `verify` has them.

    Args:
        path: the .tflite file.
        output_dir: folder for the files; created if it does not exist.
        formats: "native", "firmware", or both.
        precisions: must be "float32" alone, the default: the precision is that of the file.
        stated: the facts about the input that the user states.
        report: called with the artifact after it is written.
        note: called with messages for the user.
        board: the board of "firmware".

    Raises:
        UsageError: another format or a precision is chosen.
        ModelFileError: the file is damaged, an operator is not covered, or the C file gives other
            outputs than LiteRT.
    """
    if not {"native", "firmware"} >= set(formats):
        raise UsageError(
            f"{path.name} is a .tflite file, which becomes C only; choose --format native or"
            " --format firmware, or export the float model"
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
    if board:
        footprint = firmware.check(code.file(precision), path.name, board)

    def write(folder: Path) -> Artifact:
        artifact = write_artifact(
            folder / f"{path.stem}_native.c",
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
        return artifact

    remark = _check_exactness(path, write) if code.has_integers else ""
    artifact = write(output_dir)
    _copy_reference(source, output_dir)
    report(artifact)
    if remark:
        note(f"{artifact.name}: {remark}")
    if board:
        images = evaluation_images(source) if has_test_images(source) else None
        note(firmware.write(artifact, path, images, board, footprint))
    return [artifact]


def _check_exactness(path: Path, write: Callable[[Path], Artifact]) -> str:
    """Compare a C file with its .tflite file, and return the result as a sentence.

    The C file is written to a temporary folder, so that a wrong file replaces no other.
    """
    reason = absence(get_target("native-cpu")) or absence(get_target("litert-reference"))
    if reason:
        return f"its outputs were not compared with LiteRT's ({reason})"
    with temporary_folder() as folder:
        artifact = write(folder)
        call = count_differences.bind(path.absolute(), artifact.path)
        different = worker.run(call.within(_BUILD_TIMEOUT_S))
    if different:
        raise ModelFileError(
            f"the C file of {path.name} gives {different} values that differ from LiteRT's"
            f" reference kernels on {_NUM_INPUTS} random inputs; ship the .tflite file, and please"
            " report this"
        )
    return (
        f"on {_NUM_INPUTS} random inputs, its outputs equal those of LiteRT's reference kernels"
        " byte for byte"
    )


@worker.function
def count_differences(tflite: Path, c_file: Path) -> int:
    """Return the number of output values of a C file that differ from LiteRT's reference kernels.

    Args:
        tflite: a .tflite file.
        c_file: the C file that was made from it.
    """
    litert = open_reference_kernels(tflite.read_bytes())
    litert.allocate_tensors()
    artifact, different = load_artifact(c_file), 0
    with closing(open_session(artifact, get_target("native-cpu"))) as session:
        for inputs in random_inputs(artifact.inputs, 1, _NUM_INPUTS):
            for details, values in zip(litert.get_input_details(), inputs.values(), strict=True):
                litert.set_tensor(details["index"], values)
            litert.invoke()
            session.prepare(inputs)
            session.infer()
            found = session.outputs().values()
            for details, values in zip(litert.get_output_details(), found, strict=True):
                different += int(np.sum(litert.get_tensor(details["index"]) != values))
    return different


def _copy_reference(source: Artifact, output_dir: Path) -> None:
    _, recorded = find_reference(source)
    copy = output_dir / recorded.name
    if recorded.exists() and not copy.exists():
        with atomic_write(copy) as temporary:
            shutil.copyfile(recorded, temporary)
