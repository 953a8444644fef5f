"""Anyone's data as a folder with one folder of images for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError, MissingPackageError

SIZE = 28  # pixels, of both sides: LeNet's
TEST_SHARE = 0.15
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".tif", ".tiff")


def load(folder: Path) -> tuple[Dataset, Dataset]:
    """Return training and test part from ``folder/CLASS/IMAGE``, images of any size and colour.

    Where there are ``folder/train`` and ``folder/test``, these are the parts. Otherwise 15 % of
    each class, chosen at random but always the same, are the test part. Images are scaled to
    28 x 28; if all are grey they have one channel, otherwise three.

    Raises:
        DataError: a class has no image, or an image cannot be read; it is named.
    """
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        found = {part: _classes(folder / part) for part in ("train", "test")}
        if list(found["train"]) != list(found["test"]):
            raise DataError(
                f"{folder}/train and {folder}/test have different classes; give both the same"
            )
    else:
        found = {"train": {}, "test": {}}
        for name, paths in _classes(folder).items():
            if len(paths) < 2:
                raise DataError(f"class {name} in {folder} has one image; it needs two or more")
            order = np.random.default_rng(0).permutation(len(paths))
            count = max(1, round(TEST_SHARE * len(paths)))
            found["test"][name] = [paths[i] for i in sorted(order[:count])]
            found["train"][name] = [paths[i] for i in sorted(order[count:])]
    pictures = {
        part: [_read(path) for paths in classes.values() for path in paths]
        for part, classes in found.items()
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
        for part, classes in found.items()
    )
    return training, test


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of each class, in the order of their names."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if len(folders) < 2:
        raise DataError(f"{folder} has {len(folders)} class folders; it needs two or more")
    found = {}
    for one in folders:
        images = sorted(path for path in one.iterdir() if path.suffix.lower() in SUFFIXES)
        if not images:
            raise DataError(f"class folder {one} holds no images ({', '.join(SUFFIXES[:3])} ...)")
        found[one.name] = images
    return found


def _read(path: Path) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingPackageError("pillow", "host") from None
    try:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image; mend or remove it") from error
    return np.asarray(small, np.uint8)


def _is_grey(image: npt.NDArray[np.uint8]) -> bool:
    return bool((image[..., :1] == image).all())
