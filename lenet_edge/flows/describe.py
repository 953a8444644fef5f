"""Write the manifests of model files from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lenet_edge.artifacts.artifact import Artifact, write_manifest
from lenet_edge.artifacts.stated_input import StatedInput
from lenet_edge.errors import ModelFileError
from lenet_edge.selection import load_artifacts


def describe(
    files: Sequence[Path], stated: StatedInput, note: Callable[[str], None]
) -> list[Artifact]:
    """Write a manifest beside each file, with the stated facts and what the file itself says.

    Args:
        files: model files.
        stated: the facts that the user states. They replace those of an earlier manifest.
        note: called with a line of text for a tested preprocessing.

    Raises:
        ModelFileError: a file cannot be used, or was exported by lenet-edge, which knows it.
        UsageError: the stated facts do not fit a file.
    """
    artifacts = load_artifacts(files, Path(), note, stated, describe_again=True)
    for artifact in artifacts:
        if artifact.parent_sha256 is not None:
            raise ModelFileError(
                f"{artifact.path} was exported by lenet-edge, and its checkpoint says what it"
                " takes; export it again with the options"
            )
    for artifact in artifacts:
        write_manifest(artifact)
    return artifacts
