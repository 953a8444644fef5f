"""Data sets and images in folders of image files.

Images are decoded and resized by the two functions that prediction uses, so that a model sees the
same pixels in training and in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.preprocessing import UNIT, Preprocessing
from lenet_edge.data import folder_layout
from lenet_edge.data.dataset import Dataset, FileFacts, LabelledImages, split_by_class
from lenet_edge.data.image_file import decode_image, image_size, read_image_file, resize_image
from lenet_edge.data.labels import map_classes
from lenet_edge.errors import DataError
from lenet_edge.support.npz import MAX_BYTES

SIZE = 28  # height and width in pixels, those of LeNet
_MAX_LISTED = 10  # images that cannot be used, in a message


def load(
    folder: Path,
    shape: tuple[int, int, int | None] = (SIZE, SIZE, None),
    preprocessing: Preprocessing = UNIT,
) -> tuple[Dataset, Dataset]:
    """Load the training part and the test part from ``folder/CLASS/IMAGE``.

    The parts are folders with usual names, such as train and test, see `folder_layout`. Without
    parts, the test part is 15 % of each class; the choice is random and always the same. Images may
    have any size, and are scaled.

    Args:
        folder: the folder.
        shape: height, width and channels of the scaled images. None means one channel if all images
            are grey, and otherwise three.
        preprocessing: the rule of the model, for the way of scaling.

    Raises:
        DataError: the layout cannot be used, there are fewer than two classes, a class has too few
            images, or images cannot be decoded. The message names the folder, the class or the
            images.
        MissingPackageError: Pillow is not installed.
    """
    layout = folder_layout.find_layout(folder)
    class_names = tuple(layout.training)
    parts = [layout.training] if layout.test is None else [layout.training, layout.test]
    paths = [path for part in parts for images in part.values() for path in images]
    decoded = _decode(folder, paths, shape[:2], shape[2], preprocessing)
    labels = np.concatenate([_labels_of(part) for part in parts])
    name = folder.resolve().name
    data = Dataset(
        name, decoded.images, labels, class_names, FileFacts(decoded.sizes, layout.remarks)
    )
    if layout.test is None:
        return split_by_class(data)
    count = sum(map(len, layout.training.values()))
    return data.subset(slice(count), f"{name}-train"), data.subset(
        slice(count, None), f"{name}-test"
    )


def load_images(
    folder: Path,
    shape: tuple[int, int, int],
    class_names: Sequence[str] = (),
    part: folder_layout.Part = "test",
    preprocessing: Preprocessing = UNIT,
) -> LabelledImages:
    """Load the images in a folder, scaled to the input of a model.

    Args:
        folder: a folder of images, with labels if it has class folders.
        shape: height, width and channels of the images.
        class_names: the classes of the model, in the order of the labels; without any, the order
            of the class folders counts.
        part: the part to load, "train" or "test", if the folder has parts.
        preprocessing: the rule of the model, for the way of scaling.

    Raises:
        DataError: there are no images, images cannot be decoded, or the model has no class of the
            name of a folder.
        MissingPackageError: Pillow is not installed.
    """
    if not folder_layout.has_classes(folder):
        paths, remarks = folder_layout.find_images(folder)
        decoded = _decode(folder, paths, shape[:2], shape[2], preprocessing)
        return LabelledImages(decoded.images, None, remarks)
    layout = folder_layout.find_layout(folder)
    images = layout.training if part == "train" or layout.test is None else layout.test
    paths = [path for paths in images.values() for path in paths]
    labels = map_classes(_labels_of(images), tuple(images), class_names, str(folder))
    decoded = _decode(folder, paths, shape[:2], shape[2], preprocessing)
    return LabelledImages(decoded.images, labels, layout.remarks)


def _labels_of(images: dict[str, list[Path]]) -> npt.NDArray[np.int32]:
    counts = [len(paths) for paths in images.values()]
    return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


@dataclass(frozen=True)
class _Decoded:
    """Scaled images, and the sizes of the smallest and of the largest file."""

    images: npt.NDArray[np.uint8]
    sizes: tuple[tuple[int, int], tuple[int, int]]


def _decode(
    folder: Path,
    paths: Sequence[Path],
    size: tuple[int, int],
    channels: int | None,
    preprocessing: Preprocessing,
) -> _Decoded:
    """Decode and scale image files.

    Args:
        folder: the folder, for messages.
        paths: the files.
        size: height and width of the result.
        channels: 1 or 3; None means 1 if all images are grey, and otherwise 3.
        preprocessing: the rule of the model, for the way of scaling.

    Raises:
        DataError: images cannot be decoded; the message lists the first of them. Or there are too
            many images.
    """
    height, width = size
    limit = MAX_BYTES // (height * width * (channels or 3))
    if len(paths) > limit:
        raise DataError(
            f"{folder} holds {len(paths):,} images; at {width} x {height} the limit is {limit:,};"
            " use fewer"
        )
    images, sizes, bad = [], [], []
    for path in paths:
        name = str(path.relative_to(folder))
        try:
            content = read_image_file(path)
            image = decode_image(content, name)
        except DataError as error:
            # The end is the fix for a single image.
            bad.append(str(error).rpartition("; ")[0].replace(str(path), name))
            continue
        wanted = channels or (1 if (image == image[..., :1]).all() else 3)
        shape = (height, width, wanted)
        images.append(resize_image(image, shape, preprocessing.resize, preprocessing.filter))
        sizes.append(image_size(content))
    if bad:
        more = f" and {len(bad) - _MAX_LISTED} more" if len(bad) > _MAX_LISTED else ""
        raise DataError(
            f"{len(bad)} of {len(paths)} images in {folder} cannot be used:"
            f" {', '.join(bad[:_MAX_LISTED])}{more}; replace or remove them"
        )
    most = max(image.shape[2] for image in images)
    stacked = np.stack([np.broadcast_to(image, (height, width, most)) for image in images])
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return _Decoded(stacked, (ordered[0], ordered[-1]))
