"""Reading and decoding of PNG and JPEG files from cameras, scanners and drawing programs.

Images come from untrusted sources: decoding tries only these two formats, within the limits of
`data.image_container`.
The functions import NumPy and Pillow themselves, because a command that only passes file names
needs neither.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge.data.image_container import extract_pixel_parts
from lenet_edge.errors import DataError, MissingPackageError
from lenet_edge.support.regular_file import open_regular_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_BYTES = 32 * 2**20
_KEPT_SIDE = 1024  # pixels; larger images are reduced before any other step
_BAND_PIXELS = 2**20  # of a large image, which is reduced in bands
_TURNED = (5, 6, 7, 8)  # orientations of EXIF with a quarter turn


def read_image_file(path: Path) -> bytes:
    """Read the content of an image file without decoding it.

    Raises:
        DataError: the path is missing, is not a regular file, cannot be read, or has over 32 MiB.
    """
    try:
        with open_regular_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise DataError(
                    f"{path} has {size / 2**20:,.0f} MiB; the limit is {MAX_BYTES // 2**20} MiB;"
                    " make the image smaller"
                )
            return file.read(MAX_BYTES)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give a PNG or JPEG image or a folder") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the file") from error


def decode_image(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Decode a PNG or JPEG file to RGB.

    The image is rotated as its EXIF data say, and transparent pixels become white. Grey, 16-bit,
    palette and CMYK images are converted. Large images are reduced by a whole factor.

    Args:
        content: the content of the file.
        name: the name of the image in error messages.

    Returns:
        uint8 of shape (height, width, 3), each side under 2,048 pixels.

    Raises:
        DataError: the file is not a PNG or JPEG image, is damaged, or exceeds a limit of
            `data.image_container`.
        MissingPackageError: Pillow is not installed.
    """
    import numpy as np

    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("pillow", "predict") from None
    if not content:
        raise DataError(f"{name} is empty; give a PNG or JPEG image")
    parts = extract_pixel_parts(content, name)
    try:
        with Image.open(io.BytesIO(parts.content), formats=("PNG", "JPEG")) as image:
            factor = max(1, max(image.size) // _KEPT_SIDE)
            # Decode a JPEG at a reduced size.
            image.draft(None, (image.width // factor or 1, image.height // factor or 1))
            upright = _rotate(_reduce(image), parts.orientation)
            return np.asarray(_on_white(upright), np.uint8)
    except MemoryError:
        raise DataError(f"{name} takes too much memory; make the image smaller") from None
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError) as error:
        raise DataError(f"{name} is damaged ({error}); save the image again") from error


def _reduce(image: Image.Image) -> Image.Image:
    """Convert an image to 8 bits for each channel, and reduce a large image by a whole factor.

    A large image is converted in bands, because a converted copy would double the memory.
    """
    from PIL import Image as Pillow

    factor = min(max(image.size) // _KEPT_SIDE, *image.size)
    if factor <= 1:
        return _eight_bits(image)
    width, height = image.size
    rows = factor * max(1, _BAND_PIXELS // (width * factor))
    reduced = None
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        band = _eight_bits(band).reduce(factor)
        if reduced is None:
            reduced = Pillow.new(band.mode, (band.width, -(-height // factor)))
        reduced.paste(band, (0, top // factor))
    assert reduced is not None
    return reduced


def _eight_bits(image: Image.Image) -> Image.Image:
    import numpy as np
    from PIL import Image as Pillow

    if image.mode.startswith("I"):  # 16-bit grey; Pillow's conversion would clip at 255
        return Pillow.fromarray((np.asarray(image, np.uint16) >> 8).astype(np.uint8))
    if image.has_transparency_data and image.mode != "RGBA":
        return image.convert("RGBA")
    if image.mode in ("P", "1"):  # the mean of palette indices is meaningless
        return image.convert("RGB")
    return image


def _rotate(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image upright, given the orientation of its EXIF data."""
    from PIL.Image import Transpose

    methods = (
        Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM,
        Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90,
    )  # fmt: skip
    return image.transpose(methods[orientation - 2]) if orientation > 1 else image


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image as Pillow

    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Pillow.new("RGBA", image.size, "white")
    return Pillow.alpha_composite(white, image).convert("RGB")


def image_size(content: bytes) -> tuple[int, int]:
    """Return width and height of an image that `decode_image` accepts, before any reduction."""
    from PIL import Image

    parts = extract_pixel_parts(content, "the image")
    with Image.open(io.BytesIO(parts.content), formats=("PNG", "JPEG")) as image:
        width, height = image.size
    return (height, width) if parts.orientation in _TURNED else (width, height)


def resize_image(
    image: npt.NDArray[np.uint8],
    shape: tuple[int, int, int],
    rule: str | None = None,
    filter: str = "bilinear",
) -> npt.NDArray[np.uint8]:
    """Resize an RGB image, in training, calibration and prediction.

    Args:
        image: uint8 of shape (height, width, 3).
        shape: height, width and channels of the result; 1 channel converts to grey.
        rule: "stretch", "crop" or "letterbox", see `artifacts.preprocessing`; None stretches.
        filter: "bilinear", "bicubic" or "nearest".

    Returns:
        uint8 of shape `shape`.
    """
    import numpy as np
    from PIL import Image, ImageOps

    height, width, channels = shape
    resampling = Image.Resampling[filter.upper()]
    coloured = Image.fromarray(image).convert("L" if channels == 1 else "RGB")
    if rule == "crop":
        small = ImageOps.fit(coloured, (width, height), resampling)
    elif rule == "letterbox":
        small = ImageOps.pad(coloured, (width, height), resampling)  # with black
    else:
        small = coloured.resize((width, height), resampling)
    return np.asarray(small, np.uint8).reshape(shape)
