"""Write the manifests of model files from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact, write_manifest
from lenet_edge.artifacts.reference import Reference, reference_path
from lenet_edge.artifacts.stated_input import StatedInput
from lenet_edge.classifier_io import check_classifier
from lenet_edge.data.labelled_images import load_images
from lenet_edge.errors import DataError, ModelFileError
from lenet_edge.selection import Pair, best_target, load_artifacts
from lenet_edge.verify.expected import infer_in_worker


def describe_files(
    files: Sequence[Path],
    stated: StatedInput,
    note: Callable[[str], None],
    data: Path | None = None,
) -> list[Artifact]:
    """Write a manifest beside each file, with the stated facts and what the file itself says.

    Args:
        files: model files.
        stated: the facts that the user states. They replace those of an earlier manifest.
        note: called with a line of text for a tested preprocessing, and for each reference.
        data: images, for which the predictions of each file are recorded as its reference.

    Raises:
        ModelFileError: a file cannot be used, or was exported by lenet-edge, which knows it.
        UsageError: the stated facts do not fit a file.
        DataError: the images do not fit a file.
        TargetError: no target on this machine runs a file, or it is no classifier.
    """
    artifacts = load_artifacts(files, Path(), note, stated, describe_again=True)
    for artifact in artifacts:
        if artifact.parent_sha256 is not None:
            raise ModelFileError(
                f"{artifact.path} was exported by lenet-edge, and its checkpoint says what it"
                " takes; export it again with the options"
            )
    for artifact in artifacts:
        reference = _record(artifact, data, note) if data else None
        if reference:
            reference.save(reference_path(artifact.path.parent, artifact.sha256))
        write_manifest(artifact)
    return artifacts


def _record(artifact: Artifact, data: Path, note: Callable[[str], None]) -> Reference:
    """Return the predictions of a file itself as its reference.

    They cannot show that a conversion was right. They show whether another machine or runtime
    computes the same as this one.
    """
    check_classifier(artifact)
    rule = artifact.preprocessing
    shape = artifact.inputs[0].image_shape or ()
    images = load_images(data, shape, artifact.labels, preprocessing=rule)
    for remark in images.remarks:
        note(remark)
    target = best_target(artifact.format)
    logits, _ = infer_in_worker(Pair(artifact, target), images.images, 1)
    note(
        f"{artifact.path}: recorded its own predictions for {len(logits):,} images, on"
        f" {target.name}; verify, bundle and deploy compare with them"
    )
    return Reference(
        artifact.sha256, data.name, logits, _stored(images.images, data), images.labels
    )


def _stored(
    images: npt.NDArray[Any], source: Path
) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
    """Return images as a reference stores them: pixels of 0 to 255, or input values."""
    if images.dtype.kind == "f":
        return images.astype(np.float32)
    if images.min() < 0 or images.max() > 255:
        raise DataError(
            f"images in {source} have integers of {images.min()} to {images.max()}; give pixels of"
            " 0 to 255, or input values as floats"
        )
    return images.astype(np.uint8)
