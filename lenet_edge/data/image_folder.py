"""Data set in a folder that has one folder of images for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError, MissingPackageError

SIZE = 28  # height and width in pixels, those of LeNet
TEST_SHARE = 0.15
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".tif", ".tiff")


def load(folder: Path) -> tuple[Dataset, Dataset]:
    """Load the training part and the test part from ``folder/CLASS/IMAGE``.

    If ``folder/train`` and ``folder/test`` exist, these are the parts. Otherwise the test part is
    15 % of each class; the choice is random and always the same. Images may have any size, and are
    scaled to 28 x 28. They have one channel if all images are grey, and otherwise three.

    Raises:
        DataError: there are fewer than two classes, a class has too few images, or an image cannot
            be read. The message names the class or the image.
        MissingPackageError: Pillow is not installed.
    """
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        parts = {part: _images_by_class(folder / part) for part in ("train", "test")}
        if list(parts["train"]) != list(parts["test"]):
            raise DataError(
                f"{folder}/train and {folder}/test have different classes; give both the same"
            )
    else:
        parts = {"train": {}, "test": {}}
        for name, paths in _images_by_class(folder).items():
            if len(paths) < 2:
                raise DataError(f"class {name} in {folder} has one image; add at least one more")
            order = np.random.default_rng(0).permutation(len(paths))
            count = max(1, round(TEST_SHARE * len(paths)))
            parts["test"][name] = [paths[i] for i in sorted(order[:count])]
            parts["train"][name] = [paths[i] for i in sorted(order[count:])]
    pictures = {
        part: [_read_image(path) for paths in classes.values() for path in paths]
        for part, classes in parts.items()
    }
    grey = all(_is_grey(image) for images in pictures.values() for image in images)
    training, test = (
        Dataset(
            f"{folder.name}-{part}",
            np.stack(pictures[part])[..., : 1 if grey else 3],
            np.repeat(
                np.arange(len(classes), dtype=np.int32), [len(paths) for paths in classes.values()]
            ),
            tuple(classes),
        )
        for part, classes in parts.items()
    )
    return training, test


def _images_by_class(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of each class, sorted by class and by file name."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if len(folders) < 2:
        raise DataError(
            f"{folder} has {len(folders)} class folders; create a folder for each of two or more"
            " classes"
        )
    images_by_class = {}
    for class_folder in folders:
        images = sorted(path for path in class_folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if not images:
            raise DataError(
                f"class folder {class_folder} holds no images; add some"
                f" ({', '.join(SUFFIXES[:3])} ...) or remove the folder"
            )
        images_by_class[class_folder.name] = images
    return images_by_class


def _read_image(path: Path) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingPackageError("pillow", "host") from None
    try:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image; replace or remove it") from error
    return np.asarray(small, np.uint8)


def _is_grey(image: npt.NDArray[np.uint8]) -> bool:
    return bool((image[..., :1] == image).all())
