"""Export of one checkpoint: a folder of artifacts with their manifests and the reference logits."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, announce, write_manifest
from lenet_edge.artifacts.head import Head, num_classes, read_outputs, resolve_head
from lenet_edge.artifacts.reference import Reference, reference_path
from lenet_edge.classifier_io import BATCH_SIZE, arrange_images, infer_all
from lenet_edge.data.dataset import Dataset
from lenet_edge.data.mnist import TEST as EMBEDDED
from lenet_edge.errors import DataError, LenetEdgeError, ModelFileError
from lenet_edge.export import c, calibration, firmware
from lenet_edge.export.artifact_writer import open_artifact
from lenet_edge.export.calibration import Calibration
from lenet_edge.export.conversion import (
    convert_file,
    converter_of,
    describe_ranges,
    export_file,
    uses_ranges,
)
from lenet_edge.export.converter import CALIBRATED_PRECISIONS, PRECISIONS
from lenet_edge.export.settle_input import (
    DEFAULT_OPTIONS,
    Evaluation,
    Note,
    Options,
    prepare,
)
from lenet_edge.export.source import ExportSource
from lenet_edge.results.stats import chance_agreement, exceeds_chance
from lenet_edge.support.files import atomic_write, sha256_of
from lenet_edge.support.printable import make_printable
from lenet_edge.target import Logits

__all__ = [
    "PRECISIONS",
    "Evaluation",
    "Options",
    "available_precisions",
    "export",
    "jobs",
]

_GOOD_AGREEMENT = 0.99


def export(
    checkpoint: Path,
    output_dir: Path,
    training: Dataset,
    test: Dataset,
    formats: Sequence[str] = ("tflite", "onnx"),
    precisions: Sequence[str] = ("float32",),
    options: Options = DEFAULT_OPTIONS,
    report: Callable[[Artifact], None] = lambda artifact: None,
    note: Note = lambda text: None,
    on_refused: Callable[[str, str, ModelFileError], object] | None = None,
) -> list[Artifact]:
    """Write each format in each precision, and the reference logits of the checkpoint.

    A format is skipped in precisions that it does not support. The reference logits are those of
    the calibration images of the user, or of the test images if these fit the model. MNIST's fit a
    model from elsewhere only if it knows them. Without images, `verify` cannot check the files.

    Args:
        checkpoint: a .keras file, from `train` or from elsewhere, or a float32 .onnx file.
        output_dir: folder for the files and their manifests; created if it does not exist.
        training: its first 1,000 images calibrate the int8 and int16x8 files.
        test: the images of the reference logits, for `verify`.
        formats: names of `lenet_edge.formats.EXPORT_CHOICES`. "c" makes the int8 .tflite file and
            a C array of it. "firmware" makes this file, the int8 C file, and a folder for
            `options.board`.
        precisions: "float32", "float16", "dynamic", "int8", "int4" and "int16x8".
        options: other choices.
        report: called with each artifact after it is written.
        note: called with further messages for the user.
        on_refused: called with the format and the precision of a file that cannot hold the model,
            and the reason. The file is then left out, unless "c" or "firmware" is made from it.
            None raises the error.

    Raises:
        ModelFileError: the checkpoint cannot be loaded, or has a layer that cannot be exported.
        DataError: the calibration images do not fit the model.
        LenetEdgeError: the folder cannot be written to.
    """
    planned = jobs(formats, precisions)
    source, own, evaluation = prepare(checkpoint, training, test, options, note)
    is_calibrated = "c" in formats or any(
        precision in CALIBRATED_PRECISIONS and not uses_ranges(source.ranges, format, precision)
        for format, precision in planned
    )
    if source.ranges and (line := describe_ranges(source.ranges, planned)):
        note(line)
    images = _calibrate(source, own, training, options, is_calibrated)
    if not source.model.is_single:
        for name in sorted({"c", "firmware"} & set(formats)):
            raise ModelFileError(f"{checkpoint}: --format {name} takes models with one output")
        note(f"verify compares the files with {checkpoint.name} output by output")
    elif is_calibrated and own is None and evaluation is None and test.name == EMBEDDED:
        note(
            f"ALARM: int8 is calibrated with images of {test.name}, which are not those of"
            f" {checkpoint.name}, so its files may be wrong; give its own with --calibration"
        )
    c_file, firmware_precision = None, _firmware_precision(precisions)
    if options.board:  # a program that is too large is refused before any file is written
        c_file = convert_file(source, "native", firmware_precision, images, options)
        footprint = firmware.check(c_file.content, checkpoint.name, options.board)
    _keep_checkpoint(source.artifact, output_dir)
    logits = _record_reference(source, evaluation, output_dir) if evaluation else None
    expected = logits if evaluation is own else None
    artifacts = []
    for format, precision in planned:
        try:
            is_firmware = (format, precision) == ("native", firmware_precision)
            converted = c_file if is_firmware else None
            artifact = export_file(
                source, format, precision, images, options, output_dir, converted
            )
        except ModelFileError as error:
            if on_refused is None or (format, precision) in _sources(formats, precisions):
                raise
            on_refused(format, precision, error)
            continue
        report(artifact)
        if expected is not None:
            note(f"{artifact.name} {_agreement(artifact, images, expected, checkpoint.name)}")
        artifacts.append(artifact)
        if "c" in formats and (format, precision) == ("tflite", "int8"):
            array, arena_bytes = c.write(artifact, images.arrays[0])
            note(f"{array}: needs an arena of {arena_bytes:,} bytes; its logits equal LiteRT's")
    if options.board:
        made = {(artifact.format, artifact.precision): artifact for artifact in artifacts}
        pictures = evaluation.images if evaluation else images.arrays[0]
        c_code, tflite = (made[format, firmware_precision] for format in ("native", "tflite"))
        note(firmware.write(c_code, tflite.path, pictures, options.board, footprint))
    return artifacts


def _calibrate(
    source: ExportSource,
    own: Evaluation | None,
    training: Dataset,
    options: Options,
    is_calibrated: bool,
) -> Calibration:
    """Return the calibration images, checked if a precision needs them or the user gave them."""
    if len(source.model.inputs) > 1:
        if options.calibration_file:
            return calibration.from_arrays(options.calibration_file, source.model.inputs)
        if is_calibrated:
            names = ", ".join(make_printable(entry.name) for entry in source.model.inputs)
            raise DataError(
                f"{source.artifact.name} has the inputs {names}, and int8 needs values for each;"
                " give an .npz file with an array for each with --calibration"
            )
        return Calibration((), "nothing")
    images = (
        calibration.from_images(own.images, own.name, source.channels_last)
        if own
        else calibration.from_dataset(training, source.channels_last)
    )
    if own or is_calibrated:
        rule = source.artifact.preprocessing
        limits = None if rule.is_assumed else rule.input_range
        calibration.check_calibration(images, source.image_shape, limits)
    return images


_DERIVED = ("c", "firmware")  # the choices without a format of their own


def _sources(formats: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """Return the files that the `_DERIVED` choices are made from."""
    sources = []
    for choice in formats:
        if choice == "c":
            sources.append(("tflite", "int8"))
        elif choice == "firmware":
            precision = _firmware_precision(precisions)
            sources += [("tflite", precision), ("native", precision)]
    return sources


def _firmware_precision(precisions: Sequence[str]) -> str:
    """Return the precision of the C file in a firmware folder: int4 if only that is chosen."""
    return "int4" if "int4" in precisions and "int8" not in precisions else "int8"


def available_precisions(formats: Sequence[str]) -> list[str]:
    """Return the precisions that at least one format has."""
    own = [converter_of(format).PRECISIONS for format in formats if format not in _DERIVED]
    return [precision for precision in PRECISIONS if any(precision in each for each in own)]


def jobs(formats: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of format and precision to export, precision by precision."""
    planned = [
        (format, precision)
        for precision in precisions
        for format in formats
        if format not in _DERIVED and precision in converter_of(format).PRECISIONS
    ]
    needed = dict.fromkeys(_sources(formats, precisions))
    planned += [job for job in needed if job not in planned]
    for precision in precisions:
        if precision not in {name for _, name in planned} and not set(_DERIVED) >= set(formats):
            raise LenetEdgeError(
                f"{precision} is not available for {' and '.join(formats)}; add another --format"
            )
    return planned


def _agreement(artifact: Artifact, images: Calibration, expected: Any, checkpoint: str) -> str:
    """Return how well a file agrees with its checkpoint on the calibration images, in words."""
    count = len(images.arrays[0])
    with closing(open_artifact(artifact)) as session:
        values = arrange_images(images.arrays[0], artifact.inputs[0])
        actual = infer_all(session, values, artifact.batch_size or BATCH_SIZE)
    wanted = expected.reshape(count, -1)
    head = resolve_head(artifact.stated_head, wanted)
    if head is Head.VALUES:
        error = float(np.abs(actual - wanted).max())
        return f"differs from {checkpoint} by at most {error:.2g} on {images.source}"
    classes, others = (read_outputs(values, head)[0] for values in (wanted, actual))
    share = float(np.mean(classes == others))
    chance = chance_agreement(classes, others, num_classes(head, wanted.shape[1]))
    alarm = ""
    if share < _GOOD_AGREEMENT and not exceeds_chance(share, chance, count):
        alarm = f". ALARM: an unrelated model would agree on {chance:.1%}; do not use this file"
    return f"agrees with {checkpoint} on {share:.1%} of {images.source}{alarm}"


def _keep_checkpoint(checkpoint: Artifact, output_dir: Path) -> None:
    """Copy the checkpoint and its manifest into the folder of its exports.

    The parts of the file are copied too.
    """
    copy = dataclasses.replace(checkpoint, path=output_dir / checkpoint.path.name)
    if copy.path.resolve() != checkpoint.path.resolve():
        for part in checkpoint.parts:
            with atomic_write(output_dir / part.name) as temporary:
                shutil.copyfile(checkpoint.path.parent / part.name, temporary)
        with atomic_write(copy.path) as temporary:
            shutil.copyfile(checkpoint.path, temporary)
            if sha256_of(temporary) != checkpoint.sha256:
                raise ModelFileError(f"{checkpoint.path} changed while it was read; export again")
            announce(copy)
    write_manifest(copy)


def _record_reference(source: ExportSource, evaluation: Evaluation, output_dir: Path) -> Logits:
    logits = source.predict(evaluation.images)
    own_images = () if evaluation.name == EMBEDDED else (evaluation.images, evaluation.labels)
    sha256 = source.artifact.sha256
    flat = logits.reshape(len(logits), -1)
    Reference(sha256, evaluation.name, flat, *own_images).save(reference_path(output_dir, sha256))
    return logits
