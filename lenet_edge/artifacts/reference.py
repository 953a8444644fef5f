"""Reference logits: the checkpoint's recorded logits on the test images.

They are recorded at export, so that a board can verify files without Keras.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import ModelFileError
from lenet_edge.support import npz


@dataclass(frozen=True)
class Reference:
    """The logits of one checkpoint on the test images.

    Attributes:
        logits: float32 of shape (N, classes).
        images: N images, uint8 pixels or float32 values, in any layout; None for the MNIST images
            that the package contains.
        labels: int32 of shape (N,); None without labels, and together with `images`.
    """

    checkpoint_sha256: str
    dataset: str
    logits: npt.NDArray[np.float32]
    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32] | None = None
    labels: npt.NDArray[np.int32] | None = None

    def save(self, path: Path) -> None:
        """Write the .npz file, atomically."""
        npz.write_arrays(
            path, {name: value for name, value in vars(self).items() if value is not None}
        )

    def check(self) -> None:
        """Check the types, shapes and lengths of the arrays.

        Raises:
            ValueError: an array has the wrong type or shape, or the lengths differ.
        """
        _check_array("logits", self.logits, (np.float32,), 2)
        if self.images is None and self.labels is not None:
            raise ValueError("it has labels without images")
        if self.images is not None:
            _check_array("images", self.images, (np.uint8, np.float32), max(self.images.ndim, 2))
            if len(self.images) != len(self.logits) or not np.isfinite(self.images).all():
                raise ValueError("the numbers of logits and images differ, or a value is NaN")
        if self.labels is not None:
            _check_array("labels", self.labels, (np.int32,), 1)
            if len(self.labels) != len(self.logits):
                raise ValueError("the numbers of logits and labels differ")

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read a file that `save` wrote.

        Raises:
            ModelFileError: the file is missing or damaged.
        """
        try:
            arrays = npz.read_arrays(path)
            reference = cls(
                str(arrays["checkpoint_sha256"]),
                str(arrays["dataset"]),
                arrays["logits"],
                *(arrays.get(name) for name in ("images", "labels")),
            )
            reference.check()
            return reference
        except FileNotFoundError:
            raise ModelFileError(
                f"{path}: no such file; it holds the reference logits of the checkpoint;"
                " make it with: lenet-edge export, with --calibration if the model's images are"
                " not known; or compare with another file: --reference FILE"
            ) from None
        except (ValueError, KeyError) as error:
            raise ModelFileError(f"{path} is damaged ({error}); export again") from error


def _check_array(name: str, array: npt.NDArray[Any], dtypes: Sequence[type], rank: int) -> None:
    if array.dtype not in dtypes or array.ndim != rank or not array.size:
        raise ValueError(f"{name} are {array.dtype} of shape {array.shape}")


def reference_for(artifact: Artifact) -> Reference:
    """Return the reference logits of the checkpoint that a file was exported from.

    Raises:
        ModelFileError: they are not beside the file, or belong to another checkpoint.
    """
    checkpoint, path = find_reference(artifact)
    counts = len(artifact.inputs), len(artifact.outputs)
    if max(counts) > 1 and not path.exists():
        raise ModelFileError(
            f"{artifact.path} has {counts[0]} inputs and {counts[1]} outputs, and predictions are"
            " recorded for models with one of each; compare two files: lenet-edge verify FILE"
            " --reference FILE"
        )
    if artifact.parent_sha256 is None and artifact.precision == "unknown" and not path.exists():
        raise ModelFileError(
            f"{artifact.path} has no recorded predictions to compare with; record its own on this"
            f" machine: lenet-edge describe {shlex.quote(artifact.name)} --data IMAGES.npz, or"
            " compare two files: lenet-edge verify FILE --reference FILE"
        )
    reference = Reference.load(path)
    if reference.checkpoint_sha256 != checkpoint:
        raise ModelFileError(
            f"the reference logits beside {artifact.path} belong to another checkpoint;"
            " export again"
        )
    return reference


def find_reference(artifact: Artifact) -> tuple[str, Path]:
    """Return the hash of the checkpoint of a file, and the path of its reference logits.

    An exported .onnx file can be the checkpoint of other files. Its own logits are then recorded
    beside it, and those of its parent may not be.
    """
    folder, own = artifact.path.parent, artifact.sha256
    parent = artifact.parent_sha256 or own
    path, own_path = reference_path(folder, parent), reference_path(folder, own)
    return (own, own_path) if own_path.exists() and not path.exists() else (parent, path)


def reference_path(folder: Path, checkpoint_sha256: str) -> Path:
    """Return the path of a checkpoint's reference logits, in the folder of its exports."""
    return folder / f"reference-{checkpoint_sha256[:12]}.npz"
