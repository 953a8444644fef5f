"""The float model's answers to the test images, recorded once, so that a board needs no Keras."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lenet_edge.artifact import atomic_write
from lenet_edge.errors import ModelFileError
from lenet_edge.target import Logits


@dataclass(frozen=True)
class Reference:
    """What the checkpoint with this hash answers: `logits` is float32 of shape (N, classes)."""

    checkpoint_sha256: str
    dataset: str
    logits: Logits

    def save(self, path: Path) -> None:
        """Write the .npz file, atomically."""
        with atomic_write(path) as temporary:
            np.savez_compressed(
                temporary,
                checkpoint_sha256=self.checkpoint_sha256,
                dataset=self.dataset,
                logits=self.logits,
            )

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read a file that `save` wrote.

        Raises:
            ModelFileError: it is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(
                    str(arrays["checkpoint_sha256"]), str(arrays["dataset"]), arrays["logits"]
                )
        except FileNotFoundError:
            raise ModelFileError(
                f"{path}: no such file; it holds what the float model answers and is made by:"
                " lenet-edge export"
            ) from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ModelFileError(f"{path} is damaged ({error}); export again") from error


def reference_path(folder: Path, checkpoint_sha256: str) -> Path:
    """Return where the reference logits of a checkpoint lie, beside the files made from it."""
    return folder / f"reference-{checkpoint_sha256[:12]}.npz"
