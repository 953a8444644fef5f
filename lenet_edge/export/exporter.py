"""From one checkpoint to a folder of artifacts, each with its manifest."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import (
    SUFFIXES,
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
from lenet_edge.artifacts.reference import Reference, reference_path
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.data.mnist import TEST as EMBEDDED
from lenet_edge.errors import DataError, LenetEdgeError, ModelFileError, TargetError
from lenet_edge.export import c, calibration, native, onnx, tflite, wasm
from lenet_edge.export.calibration import Calibration
from lenet_edge.export.checkpoint import layers_alone, load_checkpoint
from lenet_edge.export.embed import embed
from lenet_edge.export.native.text import identifier
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.support.files import atomic_write, sha256_of
from lenet_edge.support.quiet import quiet
from lenet_edge.target import Images

CONVERTERS = {"tflite": tflite, "onnx": onnx, "native": native, "wasm": wasm}
PRECISIONS = tflite.PRECISIONS  # all there are; the others have fewer
_CALIBRATED = ("int8", "int16x8")
# What opens a finished file here; the plain kernels take every precision.
_TARGETS = {
    "tflite": get_target("litert-reference"),
    "onnx": get_target("onnxruntime-cpu"),
    "native": get_target("native-cpu"),
    "wasm": get_target("wasmtime-cpu"),
}


def export(
    checkpoint: Path,
    output_dir: Path,
    training: Dataset,
    test: Dataset,
    formats: Sequence[str] = ("tflite", "onnx"),
    precisions: Sequence[str] = ("float32",),
    report: Callable[[Artifact], None] = lambda artifact: None,
    batch_size: int | None = None,
    cpu: str = "auto",
    calibration_file: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> list[Artifact]:
    """Write each format in each precision, and what the float model answers to the test images.

    A precision that a format does not have is left out of that format. When the test images do not
    fit the model, so that `verify` cannot judge its files, each is compared with the Keras model
    on the calibration images instead.

    Args:
        checkpoint: a .keras file, of `train` or of someone else.
        output_dir: where the files and their manifests go; made if need be.
        training: its first 1,000 images calibrate the int8 and int16x8 files.
        test: the images whose float logits `verify` compares with.
        formats: "tflite"; "onnx"; "native", the network as C; "wasm", that built for browsers; and
            "c": the int8 .tflite file, and that as a C array too.
        precisions: of "float32", "float16", "dynamic", "int8" and "int16x8".
        report: called with each artifact when it is on disk.
        batch_size: fixes the batch, for delegates that need that; None leaves it free.
        cpu: where int8 ONNX files will run: "x86", "arm", or "auto", a machine like this one.
        calibration_file: an .npz file of images to calibrate with instead of `training`.
        note: called with what the user should know beside the files.

    Raises:
        ModelFileError: the checkpoint cannot be loaded, or has a layer that cannot be exported.
        DataError: the calibration images do not fit the model.
        LenetEdgeError: the folder cannot be written to.
    """
    todo = jobs(formats, precisions)
    check_format(checkpoint)
    sha256 = sha256_of(checkpoint)
    model = load_checkpoint(checkpoint)
    parent = _parent(checkpoint, model)
    if parent.sha256 != sha256:
        raise ModelFileError(f"{checkpoint} has changed while it was read; export it again")
    images = (
        calibration.from_file(calibration_file, parent.pixel_scale)
        if calibration_file
        else calibration.from_dataset(training, parent.pixel_scale)
    )
    if parent.labels and parent.labels != test.class_names:
        raise DataError(
            f"{checkpoint} tells {', '.join(parent.labels[:3])} ... apart, and {test.name}"
            f" {', '.join(test.class_names[:3])} ...; name its own images with --dataset"
        )
    image_shape = tuple(model.inputs[0].shape[1:])
    if calibration_file or any(precision in _CALIBRATED for _, precision in todo):
        # Someone else's model may take any range; ours takes scaled pixels.
        white = 255 * parent.pixel_scale if parent.labels else None
        calibration.check(images, image_shape, white)
    _keep_checkpoint(parent, output_dir)
    expected = None
    if test.image_shape == image_shape and model.outputs[0].shape[-1] == len(test.class_names):
        _record_reference(model, parent, test, output_dir)
    elif calibration_file:
        expected = model.predict(images.images, verbose=0)
    else:
        note(
            f"the images of {test.name} do not fit {checkpoint.name}, so its files were not"
            " compared with it; give images that do with --calibration"
        )
    made = []
    for format, precision in todo:
        settings: dict[str, Any] = {}
        if (format, precision) == ("onnx", "int8"):
            settings["reduce_range"] = onnx.needs_reduced_range(cpu)
        # Made of C, which has a function to be named, and whose tensors are known as it is written.
        of_c = native if format == "native" else wasm if format == "wasm" else None
        named = {"name": identifier(checkpoint.stem)} if of_c else {}
        content = _convert(
            model, checkpoint, format, precision, images, batch_size, {**settings, **named}
        )
        tensors = of_c.tensors(content) if of_c else {}
        # Not to be taken for the .c file of --format c, which holds a .tflite file.
        kind = "_native" if format == "native" else ""
        fixed = "" if batch_size is None else f"_b{batch_size}"
        artifact = write_artifact(
            output_dir / f"{checkpoint.stem}{kind}_{precision}{fixed}{SUFFIXES[format]}",
            content,
            **tensors,
            precision=precision,
            batch_size=batch_size,
            parent_sha256=parent.sha256,
            converter=CONVERTERS[format].CONVERTER,
            calibration=images.source if precision in _CALIBRATED else None,
            labels=parent.labels,
            pixel_scale=parent.pixel_scale,
            settings=tuple(f"{name}={value}" for name, value in settings.items()),
        )
        if format == "native":
            native.write_header(artifact)
        report(artifact)
        if expected is not None:
            share = _agreement(artifact, images.images, expected)
            note(f"{artifact.name} agrees with {checkpoint.name} on {share:.1%} of {images.source}")
        made.append(artifact)
        if "c" in formats and (format, precision) == ("tflite", "int8"):
            source, arena_bytes = c.write(artifact, images.images)
            note(f"{source}: needs an arena of {arena_bytes:,} bytes, answers as LiteRT does")
    return made


def jobs(formats: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """Return each format and precision to make, precision by precision."""
    todo = [
        (format, precision)
        for precision in precisions
        for format in formats
        if format != "c" and precision in CONVERTERS[format].PRECISIONS
    ]
    if "c" in formats and ("tflite", "int8") not in todo:
        todo.append(("tflite", "int8"))
    for precision in precisions:
        if precision not in {done for _, done in todo} and tuple(formats) != ("c",):
            raise LenetEdgeError(
                f"{precision} is not made for {' and '.join(formats)}; add another --format"
            )
    return todo


def _parent(checkpoint: Path, model: Any) -> Artifact:
    """Return the checkpoint's artifact; one without a manifest takes pixels as they are."""
    if has_manifest(checkpoint):
        return load_artifact(checkpoint)
    return describe(
        checkpoint,
        precision="float32",
        batch_size=None,
        inputs=(TensorSpec("image", tuple(model.inputs[0].shape), "float32"),),
        outputs=(TensorSpec("logits", tuple(model.outputs[0].shape), "float32"),),
        parent_sha256=None,
        converter="keras",
        calibration=None,
        pixel_scale=1.0,
    )


def _convert(
    model: Any,
    checkpoint: Path,
    format: str,
    precision: str,
    images: Calibration,
    batch_size: int | None,
    settings: dict[str, Any],
) -> bytes:
    convert = CONVERTERS[format].convert
    try:
        with quiet():  # converters warn of what is as it should be
            content = convert(model, precision, images.images, batch_size, **settings)
    except ModelFileError:
        raise  # it says what is wrong already
    except OSError as error:
        raise LenetEdgeError(
            f"no room for the converter's temporary files: {error}; free some or set TMPDIR"
        ) from error
    except Exception as error:  # each converter raises its own kinds, which name no layer
        for name, kind, alone in layers_alone(model):
            try:
                with quiet():
                    convert(alone, "float32", images.images)
            except Exception:
                raise ModelFileError(
                    f"{checkpoint}: layer {name} ({kind}) cannot be exported to {format};"
                    " replace it, or choose another --format"
                ) from error
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise ModelFileError(
            f"{checkpoint} cannot be exported to {format} in {precision}: {reason}"
        ) from error
    assert isinstance(content, bytes)
    return content


def write_artifact(path: Path, content: bytes, **facts: Any) -> Artifact:
    """Write a model file with its contract inside, and its manifest beside it.

    Args:
        path: where it goes.
        content: the .tflite or .onnx file as its converter made it.
        facts: the fields of `Artifact` that neither the file nor its runtime can tell.

    Raises:
        ModelFileError: the runtime that knows every operator cannot open it.
        LenetEdgeError: the folder cannot be written to.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        draft = describe(temporary, **{"inputs": (), "outputs": (), **facts})
        # The runtime says what the tensors of the finished file are; that is what users will meet.
        # C needs none to be written, and its compiler may be on another machine.
        try:
            if "inputs" not in facts:
                with closing(open_session(draft, _TARGETS[draft.format])) as session:
                    facts["inputs"], facts["outputs"] = (
                        tuple(session.inputs),
                        tuple(session.outputs),
                    )
        except TargetError as error:
            reason = str(error).replace(str(temporary), path.name)
            raise ModelFileError(f"{reason}; leave out {facts['precision']}") from error
        draft = dataclasses.replace(draft, inputs=facts["inputs"], outputs=facts["outputs"])
        temporary.write_bytes(embed(content, draft.format, contract(draft)))
        artifact = dataclasses.replace(describe(temporary, **facts), path=path)
        announce(artifact)
    write_manifest(artifact)
    return artifact


def _agreement(artifact: Artifact, images: Images, expected: Any) -> float:
    """Return how often the file's top class is the Keras model's."""
    size = artifact.batch_size or 1
    padded = -(-len(images) // size) * size
    found = []
    with closing(open_session(artifact, _TARGETS[artifact.format])) as session:
        for batch in np.resize(images, (padded, *images.shape[1:])).reshape(
            -1, size, *images.shape[1:]
        ):
            session.prepare(batch)
            session.infer()
            found += session.logits().argmax(axis=-1).tolist()
    return float(np.mean(np.array(found[: len(images)]) == expected.argmax(axis=-1)))


def _keep_checkpoint(parent: Artifact, output_dir: Path) -> None:
    """Put the checkpoint beside its exports, so that the folder is whole by itself."""
    copy = dataclasses.replace(parent, path=output_dir / parent.path.name)
    if copy.path.resolve() != parent.path.resolve():
        with atomic_write(copy.path) as temporary:
            shutil.copyfile(parent.path, temporary)
            if sha256_of(temporary) != parent.sha256:
                raise ModelFileError(f"{parent.path} has changed meanwhile; export it again")
            announce(copy)
    write_manifest(copy)


def _record_reference(model: Any, parent: Artifact, test: Dataset, output_dir: Path) -> None:
    images = to_input(test.images, parent.pixel_scale)
    logits = model.predict(images, batch_size=1000, verbose=0)
    own = () if test.name == EMBEDDED else (test.images, test.labels)
    reference = Reference(parent.sha256, test.name, logits, *own)
    reference.save(reference_path(output_dir, parent.sha256))
