"""Export of one checkpoint: a folder of artifacts with their manifests and the reference logits."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import (
    Artifact,
    TensorSpec,
    announce,
    check_format,
    contract,
    describe,
    has_manifest,
    load_artifact,
    write_manifest,
)
from lenet_edge.artifacts.head import Head, num_classes, read_outputs, resolve_head
from lenet_edge.artifacts.preprocessing import PIXELS
from lenet_edge.artifacts.reference import Reference, reference_path
from lenet_edge.classifier_io import to_model_input
from lenet_edge.data.dataset import Dataset
from lenet_edge.data.mnist import TEST as EMBEDDED
from lenet_edge.data.npz_file import load_images
from lenet_edge.errors import DataError, LenetEdgeError, ModelFileError, TargetError
from lenet_edge.export import c, calibration
from lenet_edge.export.calibration import Calibration
from lenet_edge.export.checkpoint import keras_head, layers_alone, load_checkpoint
from lenet_edge.export.converter import (
    CALIBRATED_PRECISIONS,
    PRECISIONS,
    CompanionWriter,
    ConversionRequest,
    Converted,
    Converter,
)
from lenet_edge.export.embed import embed
from lenet_edge.formats import BY_NAME, load
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.support.files import atomic_write, sha256_of
from lenet_edge.support.quiet import quiet
from lenet_edge.target import Session

__all__ = ["PRECISIONS", "Options", "export", "jobs", "write_artifact"]

_GOOD_AGREEMENT = 0.99
Note = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """Choices of an export, beside the formats and the precisions.

    Attributes:
        batch_size: fixes the batch, for delegates that need it; None leaves it free.
        cpu: the CPU that will run int8 ONNX files: "x86", "arm", or "auto" for this machine's.
        calibration_file: an .npz file of images to calibrate with, instead of training images.
    """

    batch_size: int | None = None
    cpu: str = "auto"
    calibration_file: Path | None = None


DEFAULT_OPTIONS = Options()


@dataclass(frozen=True)
class _Checkpoint:
    """The checkpoint to export: its artifact and the Keras model in it."""

    artifact: Artifact
    model: Any

    @property
    def image_shape(self) -> tuple[int, ...]:
        return tuple(self.model.inputs[0].shape[1:])


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
) -> list[Artifact]:
    """Write each format in each precision, and the reference logits of the checkpoint.

    A format is skipped in precisions that it does not support. If the test images do not fit the
    model, `verify` cannot check its files. Then each file is compared with the Keras model on the
    calibration images instead.

    Args:
        checkpoint: a .keras file, from `train` or from elsewhere.
        output_dir: folder for the files and their manifests; created if it does not exist.
        training: its first 1,000 images calibrate the int8 and int16x8 files.
        test: the images of the reference logits, for `verify`.
        formats: names of `lenet_edge.formats.EXPORT_CHOICES`. "c" makes the int8 .tflite file and
            a C array of it.
        precisions: "float32", "float16", "dynamic", "int8" and "int16x8".
        options: other choices.
        report: called with each artifact after it is written.
        note: called with further messages for the user.

    Raises:
        ModelFileError: the checkpoint cannot be loaded, or has a layer that cannot be exported.
        DataError: the calibration images do not fit the model.
        LenetEdgeError: the folder cannot be written to.
    """
    planned = jobs(formats, precisions)
    source = _load(checkpoint)
    images = _calibration_images(source, training, options)
    _check_labels(source, test)
    if options.calibration_file or any(name in CALIBRATED_PRECISIONS for _, name in planned):
        rule = source.artifact.preprocessing
        limits = None if rule.is_assumed else rule.input_range
        calibration.check_calibration(images, source.image_shape, limits)
    _keep_checkpoint(source.artifact, output_dir)
    expected = _record_expected(source, test, images, options, output_dir, note)
    artifacts = []
    for format, precision in planned:
        artifact = _export_file(source, format, precision, images, options, output_dir)
        report(artifact)
        if expected is not None:
            note(f"{artifact.name} {_agreement(artifact, images, expected, checkpoint.name)}")
        artifacts.append(artifact)
        if "c" in formats and (format, precision) == ("tflite", "int8"):
            array, arena_bytes = c.write(artifact, images.images)
            note(f"{array}: needs an arena of {arena_bytes:,} bytes; its logits equal LiteRT's")
    return artifacts


def jobs(formats: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of format and precision to export, precision by precision."""
    planned = [
        (format, precision)
        for precision in precisions
        for format in formats
        if format != "c" and precision in _converter(format).PRECISIONS
    ]
    if "c" in formats and ("tflite", "int8") not in planned:
        planned.append(("tflite", "int8"))
    for precision in precisions:
        if precision not in {name for _, name in planned} and tuple(formats) != ("c",):
            raise LenetEdgeError(
                f"{precision} is not available for {' and '.join(formats)}; add another --format"
            )
    return planned


def _converter(format: str) -> Converter:
    reference = BY_NAME[format].converter
    assert reference
    converter: Converter = load(reference)
    return converter


def _load(checkpoint: Path) -> _Checkpoint:
    check_format(checkpoint)
    sha256 = sha256_of(checkpoint)
    model = load_checkpoint(checkpoint)
    artifact = _checkpoint_artifact(checkpoint, model)
    if artifact.sha256 != sha256:
        raise ModelFileError(f"{checkpoint} changed while it was read; export it again")
    return _Checkpoint(artifact, model)


def _checkpoint_artifact(checkpoint: Path, model: Any) -> Artifact:
    """Return the checkpoint's artifact; without a manifest, pixels are used unscaled."""
    if has_manifest(checkpoint):
        artifact = load_artifact(checkpoint)
        return dataclasses.replace(artifact, head=artifact.head or keras_head(model))
    return describe(
        checkpoint,
        precision="float32",
        batch_size=None,
        inputs=(TensorSpec("image", tuple(model.inputs[0].shape), "float32"),),
        outputs=(TensorSpec("logits", tuple(model.outputs[0].shape), "float32"),),
        parent_sha256=None,
        converter="keras",
        calibration=None,
        preprocessing=dataclasses.replace(PIXELS, origin="assumed"),
        head=keras_head(model),
    )


def _calibration_images(source: _Checkpoint, training: Dataset, options: Options) -> Calibration:
    if options.calibration_file:
        own = load_images(options.calibration_file)
        return calibration.from_images(own.images, options.calibration_file.name, source.artifact)
    return calibration.from_dataset(training, source.artifact)


def _check_labels(source: _Checkpoint, test: Dataset) -> None:
    labels = source.artifact.labels
    if labels and labels != test.class_names:
        raise DataError(
            f"{source.artifact.path} has the classes {', '.join(labels[:3])} ..., and {test.name}"
            f" has {', '.join(test.class_names[:3])} ...; name the model's images with --dataset"
        )


def _record_expected(
    source: _Checkpoint,
    test: Dataset,
    images: Calibration,
    options: Options,
    output_dir: Path,
    note: Note,
) -> Any:
    """Record the reference logits if the test images fit the model.

    Returns:
        None, or, for images that do not fit, the logits of the calibration images of the user.
    """
    model = source.model
    fits = test.image_shape == source.image_shape
    if fits and _count_classes(source) == len(test.class_names):
        _record_reference(source, test, output_dir)
        return None
    if options.calibration_file:
        return model.predict(images.images, verbose=0)
    note(
        f"the images of {test.name} do not fit {source.artifact.name}, so its files were not"
        " compared with it; give images that fit with --calibration"
    )
    return None


def _count_classes(source: _Checkpoint) -> int | None:
    """Return the number of classes of a checkpoint; None if its outputs are no classes."""
    head, shape = source.artifact.stated_head, source.model.outputs[0].shape
    if head is Head.VALUES or None in shape[1:]:
        return None
    outputs = int(np.prod(shape[1:]))
    return num_classes(head, outputs) if head else outputs


def _export_file(
    source: _Checkpoint,
    format: str,
    precision: str,
    images: Calibration,
    options: Options,
    output_dir: Path,
) -> Artifact:
    """Convert the checkpoint to one format in one precision, and write the file."""
    row, checkpoint = BY_NAME[format], source.artifact
    stem = checkpoint.path.stem
    request = ConversionRequest(
        source.model, precision, images.images, options.batch_size, options.cpu, stem
    )
    converted = _convert(checkpoint.path, format, request)
    fixed = "" if options.batch_size is None else f"_b{options.batch_size}"
    tensors: dict[str, Any] = {}
    if converted.tensors:
        tensors = {"inputs": converted.tensors[:1], "outputs": converted.tensors[1:]}
    artifact = write_artifact(
        output_dir / f"{stem}{row.tag}_{precision}{fixed}{row.suffix}",
        converted.content,
        **tensors,
        precision=precision,
        batch_size=options.batch_size,
        parent_sha256=checkpoint.sha256,
        converter=_converter(format).CONVERTER,
        calibration=images.source if precision in CALIBRATED_PRECISIONS else None,
        labels=checkpoint.labels,
        preprocessing=checkpoint.preprocessing,
        settings=converted.settings,
        head=checkpoint.head,
    )
    if row.companion:
        write_companion: CompanionWriter = load(row.companion)
        write_companion(artifact)
    return artifact


def _convert(checkpoint: Path, format: str, request: ConversionRequest) -> Converted:
    convert = _converter(format).convert
    try:
        with quiet():  # converters print warnings about normal models
            return convert(request)
    except ModelFileError:
        raise  # the message is complete
    except OSError as error:
        raise LenetEdgeError(
            f"the converter cannot write its temporary files: {error}; free disk space or set"
            " TMPDIR"
        ) from error
    except Exception as error:  # converters raise various types, which do not name the layer
        for name, kind, model in layers_alone(request.model):
            try:
                with quiet():
                    convert(dataclasses.replace(request, model=model, precision="float32"))
            except Exception:
                raise ModelFileError(
                    f"{checkpoint}: layer {name} ({kind}) cannot be exported to {format};"
                    " replace it, or choose another --format"
                ) from error
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise ModelFileError(
            f"{checkpoint} cannot be exported to {format} in {request.precision}: {reason}"
        ) from error


def write_artifact(path: Path, content: bytes, **facts: Any) -> Artifact:
    """Write a model file with its contract inside and its manifest beside it.

    Args:
        path: the path of the file.
        content: the file as its converter made it.
        facts: fields of `Artifact`. Without "inputs" and "outputs", a runtime opens the file and
            reads them.

    Raises:
        ModelFileError: the runtime cannot open the file.
        LenetEdgeError: the folder cannot be written to.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        draft = describe(temporary, **{"inputs": (), "outputs": (), **facts})
        if "inputs" not in facts:
            try:
                with closing(_open(draft)) as session:
                    facts["inputs"], facts["outputs"] = session.inputs, session.outputs
            except TargetError as error:
                reason = str(error).replace(str(temporary), path.name)
                raise ModelFileError(f"{reason}; leave out {facts['precision']}") from error
        draft = dataclasses.replace(draft, inputs=facts["inputs"], outputs=facts["outputs"])
        temporary.write_bytes(embed(content, draft.format, contract(draft)))
        artifact = dataclasses.replace(describe(temporary, **facts), path=path)
        announce(artifact)
    write_manifest(artifact)
    return artifact


def _open(artifact: Artifact) -> Session:
    target = BY_NAME[artifact.format].opened_by
    assert target
    return open_session(artifact, get_target(target))


def _agreement(artifact: Artifact, images: Calibration, expected: Any, checkpoint: str) -> str:
    """Return how well a file agrees with the Keras model on the calibration images, in words."""
    size, count = artifact.batch_size or 1, len(images.images)
    padded = -(-count // size) * size
    batches = np.resize(images.images, (padded, *images.images.shape[1:]))
    with closing(_open(artifact)) as session:
        outputs = []
        for start in range(0, padded, size):
            session.prepare(batches[start : start + size])
            session.infer()
            outputs.append(session.logits().reshape(size, -1))
    actual, wanted = np.concatenate(outputs)[:count], expected.reshape(count, -1)
    head = resolve_head(artifact.stated_head, wanted)
    if head is Head.VALUES:
        error = float(np.abs(actual - wanted).max())
        return f"differs from {checkpoint} by at most {error:.2g} on {images.source}"
    classes, others = (read_outputs(values, head)[0] for values in (wanted, actual))
    share = float(np.mean(classes == others))
    numbers = num_classes(head, wanted.shape[1])
    counts = [np.bincount(numbered, minlength=numbers) for numbered in (classes, others)]
    chance = float((counts[0] * counts[1]).sum()) / count**2
    alarm = ""
    if share < _GOOD_AGREEMENT and share <= chance + 3 * (chance * (1 - chance) / count) ** 0.5:
        alarm = f". ALARM: an unrelated model would agree on {chance:.1%}; do not use this file"
    return f"agrees with {checkpoint} on {share:.1%} of {images.source}{alarm}"


def _keep_checkpoint(checkpoint: Artifact, output_dir: Path) -> None:
    """Copy the checkpoint and its manifest into the folder of its exports."""
    copy = dataclasses.replace(checkpoint, path=output_dir / checkpoint.path.name)
    if copy.path.resolve() != checkpoint.path.resolve():
        with atomic_write(copy.path) as temporary:
            shutil.copyfile(checkpoint.path, temporary)
            if sha256_of(temporary) != checkpoint.sha256:
                raise ModelFileError(f"{checkpoint.path} changed while it was read; export again")
            announce(copy)
    write_manifest(copy)


def _record_reference(source: _Checkpoint, test: Dataset, output_dir: Path) -> None:
    images = to_model_input(test.images, source.artifact)
    logits = source.model.predict(images, batch_size=1000, verbose=0)
    logits = logits.reshape(len(logits), -1)
    own_images = () if test.name == EMBEDDED else (test.images, test.labels)
    sha256 = source.artifact.sha256
    reference = Reference(sha256, test.name, logits, *own_images)
    reference.save(reference_path(output_dir, sha256))
