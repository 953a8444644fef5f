"""Images of a user for calibration or comparison: .npz, .npy and CSV files, and folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lenet_edge.artifacts.preprocessing import UNIT, Preprocessing
from lenet_edge.data import csv_file, image_folder, npz_file
from lenet_edge.data.dataset import LabelledImages
from lenet_edge.errors import DataError


def load_images(
    path: Path,
    shape: tuple[int | None, ...] = (),
    class_names: Sequence[str] = (),
    part: Literal["train", "test"] = "test",
    preprocessing: Preprocessing = UNIT,
) -> LabelledImages:
    """Load images, and labels if there are any.

    Args:
        path: an .npz or .npy file, a CSV file, or a folder of image files.
        shape: height, width and channels that the model takes. The images of a folder are scaled
            to it. The rows of a CSV file are arranged by it.
        class_names: the classes of the model, in the order of its outputs, for labels that are
            names.
        part: the part of a folder that has a training part and a test part.
        preprocessing: the rule of the model, by which the images of a folder are scaled.

    Returns:
        The images, and labels as indices of classes. Integers are pixels of 0 to 255.

    Raises:
        DataError: the images are missing or damaged, or do not fit `shape` or `class_names`.
        MissingPackageError: Pillow is not installed, for a folder.
    """
    suffix = path.suffix.lower()
    fixed = tuple(size for size in shape if size is not None)
    known = (fixed[0], fixed[1], fixed[2]) if len(shape) == len(fixed) == 3 else None
    if path.is_dir():
        if known is None or known[2] not in (1, 3):
            raise DataError(
                f"the images in {path} cannot be scaled to the input {shape or 'of any shape'} of"
                " the model; give an .npz file of images that fit"
            )
        return image_folder.load_images(path, known, class_names, part, preprocessing)
    if suffix == ".npy":
        return npz_file.load_npy(path)
    if suffix == ".csv":
        return csv_file.load_images(path, known, class_names)
    return npz_file.load_images(path, class_names)
