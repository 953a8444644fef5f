"""The float model's answers to the test images, recorded once, so that a board needs no Keras."""

from __future__ import annotations

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
    """What the checkpoint with this hash answers: `logits` is float32 of shape (N, classes).

    `images` (uint8) and `labels` (int32) are those answered, where the package does not hold
    them itself.
    """

    checkpoint_sha256: str
    dataset: str
    logits: npt.NDArray[np.float32]
    images: npt.NDArray[np.uint8] | None = None
    labels: npt.NDArray[np.int32] | None = None

    def save(self, path: Path) -> None:
        """Write the .npz file, atomically."""
        npz.write_arrays(
            path, {name: value for name, value in vars(self).items() if value is not None}
        )

    def check(self) -> None:
        """Make sure that the arrays are what they should be and fit each other.

        Raises:
            ValueError: they are not, or do not.
        """
        _check("logits", self.logits, np.float32, 2)
        if (self.images is None) != (self.labels is None):
            raise ValueError("there are images or labels, and not both")
        if self.images is not None and self.labels is not None:
            _check("images", self.images, np.uint8, 4)
            _check("labels", self.labels, np.int32, 1)
            if not len(self.images) == len(self.labels) == len(self.logits):
                raise ValueError("there are not as many logits as images and labels")

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read a file that `save` wrote.

        Raises:
            ModelFileError: it is missing or damaged.
        """
        try:
            arrays = npz.read_arrays(path)
            found = cls(
                str(arrays["checkpoint_sha256"]),
                str(arrays["dataset"]),
                arrays["logits"],
                *(arrays.get(name) for name in ("images", "labels")),
            )
            found.check()
            return found
        except FileNotFoundError:
            raise ModelFileError(
                f"{path}: no such file; it holds what the float model answers and is made by:"
                " lenet-edge export"
            ) from None
        except (ValueError, KeyError) as error:
            raise ModelFileError(f"{path} is damaged ({error}); export again") from error


def _check(name: str, array: npt.NDArray[Any], dtype: type, rank: int) -> None:
    if array.dtype != dtype or array.ndim != rank or not array.size:
        raise ValueError(f"{name} are {array.dtype} of shape {array.shape}")


def reference_for(artifact: Artifact) -> Reference:
    """Return what the checkpoint answers that a file was made from.

    Raises:
        ModelFileError: its answers are not beside the file, or are those of another checkpoint.
    """
    checkpoint = artifact.parent_sha256 or artifact.sha256
    reference = Reference.load(reference_path(artifact.path.parent, checkpoint))
    if reference.checkpoint_sha256 != checkpoint:
        raise ModelFileError(
            f"the reference logits beside {artifact.path} are those of another checkpoint;"
            " export again"
        )
    return reference


def reference_path(folder: Path, checkpoint_sha256: str) -> Path:
    """Return where the reference logits of a checkpoint lie, beside the files made from it."""
    return folder / f"reference-{checkpoint_sha256[:12]}.npz"
