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
import numpy.typing as npt

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
from lenet_edge.artifacts.declared import declared_preprocessing
from lenet_edge.artifacts.head import Head, num_classes, read_outputs, resolve_head
from lenet_edge.artifacts.keras_file import implied_preprocessing
from lenet_edge.artifacts.preprocessing import (
    PIXELS,
    Preprocessing,
    infer_from_floats,
    recover_pixels,
)
from lenet_edge.artifacts.reference import Reference, reference_path
from lenet_edge.artifacts.stated_input import NOTHING_STATED, OPTIONS, StatedInput, question
from lenet_edge.classifier_io import BATCH_SIZE, infer_all, to_model_input
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.data.handwriting import are_normalized
from lenet_edge.data.labelled_images import load_images
from lenet_edge.data.mnist import TEST as EMBEDDED
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
from lenet_edge.results.stats import chance_agreement, exceeds_chance
from lenet_edge.rule_choice import (
    OWN_DIGITS,
    candidates,
    compare_rules,
    digits_decide,
    predicted_classes,
    takes_digits,
)
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.support.files import atomic_write, sha256_of
from lenet_edge.support.quiet import quiet
from lenet_edge.target import Logits, Session

__all__ = [
    "PRECISIONS",
    "Evaluation",
    "Options",
    "describe_checkpoint",
    "export",
    "jobs",
    "write_artifact",
]

_GOOD_AGREEMENT = 0.99
Note = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """Choices of an export, beside the formats and the precisions.

    Attributes:
        batch_size: fixes the batch, for delegates that need it; None leaves it free.
        cpu: the CPU that will run int8 ONNX files: "x86", "arm", or "auto" for this machine's.
        calibration_file: images to calibrate with, instead of training images; a file or folder
            that `data.labelled_images.load_images` takes.
        stated: the facts about the model's input that the user states.
    """

    batch_size: int | None = None
    cpu: str = "auto"
    calibration_file: Path | None = None
    stated: StatedInput = NOTHING_STATED


DEFAULT_OPTIONS = Options()


@dataclass(frozen=True)
class _Checkpoint:
    """The checkpoint to export: its artifact and the Keras model in it."""

    artifact: Artifact
    model: Any

    @property
    def image_shape(self) -> tuple[int, ...]:
        return tuple(self.model.inputs[0].shape[1:])

    @property
    def num_classes(self) -> int | None:
        """The number of classes; None if the outputs are no classes."""
        head, shape = self.artifact.stated_head, self.model.outputs[0].shape
        if head is Head.VALUES or None in shape[1:]:
            return None
        outputs = int(np.prod(shape[1:]))
        return num_classes(head, outputs) if head else outputs

    def predict(self, images: npt.NDArray[Any], rule: Preprocessing | None = None) -> Logits:
        """Return the model's outputs for images, prepared by its own rule or by another."""
        artifact = self.artifact
        if rule is not None:
            artifact = dataclasses.replace(artifact, preprocessing=rule)
        values = to_model_input(images, artifact)
        logits: Logits = self.model.predict(values, batch_size=256, verbose=0)
        return logits

    def change(self, **facts: Any) -> _Checkpoint:
        """Return the checkpoint with other facts in its artifact."""
        return _Checkpoint(dataclasses.replace(self.artifact, **facts), self.model)


@dataclass(frozen=True)
class Evaluation:
    """The images to compare the exported files on."""

    name: str
    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int32] | None


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
    on_refused: Callable[[str, ModelFileError], object] | None = None,
) -> list[Artifact]:
    """Write each format in each precision, and the reference logits of the checkpoint.

    A format is skipped in precisions that it does not support. The reference logits are those of
    the calibration images of the user, or of the test images if these fit the model. MNIST's fit a
    model from elsewhere only if it knows them. Without images, `verify` cannot check the files.

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
        on_refused: called with a format that cannot hold the model, and the reason. The format is
            then left out. None raises the error.

    Raises:
        ModelFileError: the checkpoint cannot be loaded, or has a layer that cannot be exported.
        DataError: the calibration images do not fit the model.
        LenetEdgeError: the folder cannot be written to.
    """
    planned = jobs(formats, precisions)
    source, own, evaluation = _prepare(checkpoint, training, test, options, note)
    is_calibrated = any(name in CALIBRATED_PRECISIONS for _, name in planned)
    images = (
        calibration.from_images(own.images, own.name, source.artifact)
        if own
        else calibration.from_dataset(training, source.artifact)
    )
    if own or is_calibrated:
        rule = source.artifact.preprocessing
        limits = None if rule.is_assumed else rule.input_range
        calibration.check_calibration(images, source.image_shape, limits)
    if is_calibrated and own is None and evaluation is None and test.name == EMBEDDED:
        note(
            f"ALARM: int8 is calibrated with images of {test.name}, which are not those of"
            f" {checkpoint.name}, so its files may be wrong; give its own with --calibration"
        )
    _keep_checkpoint(source.artifact, output_dir)
    logits = _record_reference(source, evaluation, output_dir) if evaluation else None
    expected = logits if evaluation is own else None
    artifacts = []
    for format, precision in planned:
        try:
            artifact = _export_file(source, format, precision, images, options, output_dir)
        except ModelFileError as error:
            if on_refused is None:
                raise
            on_refused(format, error)
            continue
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


def _prepare(
    checkpoint: Path, training: Dataset, test: Dataset, options: Options, note: Note
) -> tuple[_Checkpoint, Evaluation | None, Evaluation | None]:
    """Load a checkpoint, and settle its input.

    Returns:
        The checkpoint; the calibration images of the user, if any; and the images of the reference,
        None if none fit.
    """
    source = _load(checkpoint, options.stated)
    own = _own_images(source, options, note)
    if own is None:
        _check_labels(source, test)
    source, evaluation = _settle_input(source, training, test, own, options, note)
    return source, own, evaluation


def _load(checkpoint: Path, stated: StatedInput) -> _Checkpoint:
    check_format(checkpoint)
    sha256 = sha256_of(checkpoint)
    model = load_checkpoint(checkpoint)
    artifact = _checkpoint_artifact(checkpoint, model)
    if artifact.sha256 != sha256:
        raise ModelFileError(f"{checkpoint} changed while it was read; export it again")
    return _Checkpoint(stated.describe(artifact), model)


def _checkpoint_artifact(checkpoint: Path, model: Any) -> Artifact:
    """Return the checkpoint's artifact; without a manifest, with what it declares."""
    if has_manifest(checkpoint):
        artifact = load_artifact(checkpoint)
        return dataclasses.replace(artifact, head=artifact.head or keras_head(model))
    inputs = (TensorSpec("image", tuple(model.inputs[0].shape), "float32"),)
    outputs = (TensorSpec("logits", tuple(model.outputs[0].shape), "float32"),)
    declared, labels = declared_preprocessing(checkpoint, "keras", inputs, outputs)
    adapted = [layer.variance for layer in model.layers if type(layer).__name__ == "Normalization"]
    first = implied_preprocessing(
        {"config": model.get_config()}, adapted[0].numpy().tolist() if adapted else None
    )
    return describe(
        checkpoint,
        precision="float32",
        batch_size=None,
        inputs=inputs,
        outputs=outputs,
        parent_sha256=None,
        converter="keras",
        calibration=None,
        labels=labels,
        preprocessing=first or declared or dataclasses.replace(PIXELS, origin="assumed"),
        head=keras_head(model),
    )


def _own_images(source: _Checkpoint, options: Options, note: Note) -> Evaluation | None:
    """Return the calibration images of the user."""
    path = options.calibration_file
    if path is None:
        return None
    shape = source.artifact.inputs[0].image_shape or source.image_shape
    rule, labels = source.artifact.preprocessing, source.artifact.labels
    loaded = load_images(path, shape, labels, part="train", preprocessing=rule)
    for remark in loaded.remarks:
        note(remark)
    images = calibration.check_pixels(loaded.images, path.name)
    return Evaluation(path.name, images, loaded.labels)


def _check_labels(source: _Checkpoint, test: Dataset) -> None:
    """Check that the test images have the classes of the model, unless MNIST is only the default.

    Raises:
        DataError: they have others.
    """
    labels = source.artifact.labels
    is_foreign = source.artifact.precision == "unknown" or not has_manifest(source.artifact.path)
    if not _has_labels(test, labels) and not (is_foreign and test.name == EMBEDDED):
        raise DataError(
            f"{source.artifact.path} has the classes {', '.join(labels[:3])} ..., and {test.name}"
            f" has {', '.join(test.class_names[:3])} ...; name the model's images with --dataset"
        )


def _has_labels(test: Dataset, labels: tuple[str, ...]) -> bool:
    """Return True if a data set may have the classes of some labels; numbers stand for any name."""
    numbers = tuple(map(str, range(len(labels))))
    is_unnamed = test.name != EMBEDDED and test.class_names == numbers
    return not labels or labels == test.class_names or is_unnamed


def _settle_input(
    source: _Checkpoint,
    training: Dataset,
    test: Dataset,
    own: Evaluation | None,
    options: Options,
    note: Note,
) -> tuple[_Checkpoint, Evaluation | None]:
    """Decide the preprocessing, the labels, and the images of the reference.

    A stated or declared preprocessing is kept. Otherwise the range of float images implies one, and
    the accuracy on labelled images tests it.

    Returns:
        The checkpoint with these facts, and the images; None if there are none that fit.
    """
    artifact = source.artifact
    name = artifact.path.name
    fits = (
        test.image_shape == artifact.inputs[0].image_shape
        and source.num_classes == len(test.class_names)
        and _has_labels(test, artifact.labels)
    )
    if has_manifest(artifact.path) and artifact.labels == test.class_names and fits:
        return source, Evaluation(test.name, test.images, test.labels)
    if own and not (fits and test.name != EMBEDDED):
        evaluation: Evaluation | None = own
    elif fits:
        evaluation = Evaluation(test.name, test.images, test.labels)
    else:
        note(
            f"the images of {test.name} do not fit {name}, so its files were not compared with it;"
            " give images that fit with --calibration"
        )
        evaluation = None
    rule = artifact.preprocessing
    if rule.is_assumed:
        rule = _implied_by(own, training if evaluation is not own else None) or rule
        source = source.change(preprocessing=options.stated.change(rule))
    if evaluation and evaluation.labels is not None and source.num_classes:
        source, evaluation = _test_input(source, evaluation, note)
    source = source.change(labels=_labels(source, test, evaluation))
    if takes_digits(source.artifact) and not _has_cut_out_digits(source.artifact, evaluation):
        rule = source.artifact.preprocessing
        source = source.change(preprocessing=dataclasses.replace(rule, resize="stretch"))
    if source.artifact.preprocessing.is_assumed:
        note(question(source.artifact))
    return source, evaluation


def describe_checkpoint(
    checkpoint: Path, training: Dataset, test: Dataset, options: Options, note: Note
) -> tuple[Artifact, Evaluation | None]:
    """Return the artifact of a checkpoint as `export` describes it, and the images to judge it on.

    Args:
        checkpoint: a .keras file.
        training: the training images.
        test: the test images.
        options: the calibration images and the stated facts.
        note: called with messages for the user.

    Raises:
        ModelFileError: the checkpoint cannot be loaded.
        DataError: the images do not fit the model.
    """
    source, _, evaluation = _prepare(checkpoint, training, test, options, note)
    return source.artifact, evaluation


def _implied_by(own: Evaluation | None, training: Dataset | None) -> Preprocessing | None:
    """Return the preprocessing that the range of float images of the user implies."""
    if own and own.images.dtype.kind == "f":
        return infer_from_floats(own.images)
    if own is None and training and training.files.value_range:
        return infer_from_floats(np.array(training.files.value_range))
    return None


def _test_input(
    source: _Checkpoint, evaluation: Evaluation, note: Note
) -> tuple[_Checkpoint, Evaluation | None]:
    """Compare the usual preprocessings on labelled images, unless it is stated or declared.

    Returns:
        The checkpoint with the better one; and the images, None for MNIST's if they are not of the
        model's kind.
    """
    usual, name = source.artifact.preprocessing, source.artifact.path.name
    pixels = recover_pixels(evaluation.images)
    is_open = usual.origin in ("assumed", "inferred") and pixels is not None
    shape = source.artifact.inputs[0].image_shape
    assert evaluation.labels is not None
    assert source.num_classes
    tested = compare_rules(
        lambda rule, images: predicted_classes(source.predict(images, rule), source.artifact),
        evaluation.images if pixels is None else pixels,
        evaluation.labels,
        source.num_classes,
        usual,
        candidates(shape[-1] if shape else None) if is_open else (),
        evaluation.name,
    )
    if evaluation.name == EMBEDDED and not digits_decide(tested):
        note(
            f"{name} is right on only {tested.accuracy:.0%} of {EMBEDDED}, so these are not its"
            " images; give its own with --calibration or --dataset"
        )
        return source, None
    if not tested.fits:
        note(f"{name}: {tested.summary}, which is about chance; check the labels and {OPTIONS}")
    elif is_open:
        note(f"{name}: {tested.summary}")
    return source.change(preprocessing=tested.rule), evaluation


def _has_cut_out_digits(artifact: Artifact, evaluation: Evaluation | None) -> bool:
    """Return whether `predict` has to cut out a digit as in MNIST, or may have to."""
    if artifact.preprocessing.resize or artifact.preprocessing.is_assumed:
        return True  # another source decides
    if artifact.labels != mnist.CLASS_NAMES:
        return False
    pixels = recover_pixels(evaluation.images) if evaluation else None
    return pixels is None or are_normalized(np.reshape(pixels, (-1, 28, 28, 1)))


def _labels(source: _Checkpoint, test: Dataset, evaluation: Evaluation | None) -> tuple[str, ...]:
    """Return the labels of the model, or those of the data set that it was tested on."""
    artifact = source.artifact
    if artifact.labels:
        return artifact.labels
    names = test.class_names
    if evaluation and evaluation.name == test.name and names != mnist.CLASS_NAMES:
        return names
    if not takes_digits(artifact) or artifact.preprocessing.is_assumed:
        return ()
    if evaluation is None or evaluation.name != EMBEDDED:
        digits = mnist.load("test").subset(slice(0, 500))
        right = predicted_classes(source.predict(digits.images), source.artifact) == digits.labels
        return mnist.CLASS_NAMES if right.mean() >= OWN_DIGITS else ()
    return mnist.CLASS_NAMES


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
    count = len(images.images)
    with closing(_open(artifact)) as session:
        actual = infer_all(session, images.images, artifact.batch_size or BATCH_SIZE)
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
    """Copy the checkpoint and its manifest into the folder of its exports."""
    copy = dataclasses.replace(checkpoint, path=output_dir / checkpoint.path.name)
    if copy.path.resolve() != checkpoint.path.resolve():
        with atomic_write(copy.path) as temporary:
            shutil.copyfile(checkpoint.path, temporary)
            if sha256_of(temporary) != checkpoint.sha256:
                raise ModelFileError(f"{checkpoint.path} changed while it was read; export again")
            announce(copy)
    write_manifest(copy)


def _record_reference(source: _Checkpoint, evaluation: Evaluation, output_dir: Path) -> Logits:
    logits = source.predict(evaluation.images)
    own_images = () if evaluation.name == EMBEDDED else (evaluation.images, evaluation.labels)
    sha256 = source.artifact.sha256
    flat = logits.reshape(len(logits), -1)
    Reference(sha256, evaluation.name, flat, *own_images).save(reference_path(output_dir, sha256))
    return logits
