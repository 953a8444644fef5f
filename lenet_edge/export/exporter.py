"""From one checkpoint to a folder of artifacts, each with its manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lenet_edge.artifact import (
    Artifact,
    TensorSpec,
    atomic_write,
    describe,
    load_artifact,
    write_manifest,
)
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.export import onnx, tflite
from lenet_edge.export.checkpoint import load_checkpoint
from lenet_edge.quiet import quiet
from lenet_edge.reference import Reference, reference_path
from lenet_edge.runtimes import get_target, open_session

NUM_CALIBRATION_IMAGES = 1000
_CONVERTERS = {"tflite": tflite, "onnx": onnx}


def export(
    checkpoint: Path,
    output_dir: Path,
    training: Dataset,
    test: Dataset,
    formats: Sequence[str] = ("tflite", "onnx"),
    precisions: Sequence[str] = ("float32",),
    report: Callable[[Artifact], None] = lambda artifact: None,
) -> list[Artifact]:
    """Write each format in each precision, and what the float model answers to the test images.

    Args:
        checkpoint: a .keras file.
        output_dir: where the files and their manifests go; made if need be.
        training: its first 1,000 images calibrate the int8 files.
        test: the images whose float logits `verify` compares with.
        formats: "tflite", "onnx".
        precisions: "float32", "int8".
        report: called with each artifact when it is on disk.

    Raises:
        ModelFileError: the checkpoint cannot be loaded.
        LenetEdgeError: the folder cannot be written to.
    """
    model = load_checkpoint(checkpoint)
    parent = load_artifact(checkpoint)
    calibration = to_input(training.images[:NUM_CALIBRATION_IMAGES])
    _keep_checkpoint(checkpoint, output_dir)
    _record_reference(model, parent, test, output_dir)
    made = []
    for precision in precisions:
        for format in formats:
            with quiet():  # converters warn of what is as it should be
                content = _CONVERTERS[format].convert(model, precision, calibration)
            path = output_dir / f"{checkpoint.stem}_{precision}.{format}"
            with atomic_write(path) as temporary:
                temporary.write_bytes(content)
            artifact = _describe(path, format, precision, parent, training)
            write_manifest(artifact)
            report(artifact)
            made.append(artifact)
    return made


def _describe(
    path: Path, format: str, precision: str, parent: Artifact, training: Dataset
) -> Artifact:
    facts: dict[str, Any] = {
        "precision": precision,
        "batch_size": None,
        "parent_sha256": parent.sha256,
        "converter": _CONVERTERS[format].CONVERTER,
        "calibration": (
            f"first {NUM_CALIBRATION_IMAGES} images of {training.name}"
            if precision == "int8"
            else None
        ),
        "labels": parent.labels,
        "pixel_scale": parent.pixel_scale,
    }
    # The runtime says what the tensors of the finished file are; that is what users will meet.
    draft = describe(path, inputs=(), outputs=(), **facts)
    target = get_target("litert-reference" if format == "tflite" else "onnxruntime-cpu")
    session = open_session(draft, target)
    inputs: tuple[TensorSpec, ...] = session.inputs
    outputs: tuple[TensorSpec, ...] = session.outputs
    session.close()
    return describe(path, inputs=inputs, outputs=outputs, **facts)


def _keep_checkpoint(checkpoint: Path, output_dir: Path) -> None:
    """Put the checkpoint beside its exports, so that the folder is whole by itself."""
    copy = output_dir / checkpoint.name
    if copy.resolve() == checkpoint.resolve():
        return
    for source in (checkpoint, checkpoint.with_name(checkpoint.name + ".json")):
        with atomic_write(output_dir / source.name) as temporary:
            shutil.copyfile(source, temporary)


def _record_reference(model: Any, parent: Artifact, test: Dataset, output_dir: Path) -> None:
    images = to_input(test.images, parent.pixel_scale)
    logits = model.predict(images, batch_size=1000, verbose=0)
    reference = Reference(parent.sha256, test.name, logits)
    reference.save(reference_path(output_dir, parent.sha256))
