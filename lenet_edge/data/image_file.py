"""Reading and decoding of PNG and JPEG files from cameras, scanners and drawing programs.

Images come from untrusted sources: decoding has a memory limit and tries only these two formats.
The functions import NumPy and Pillow themselves, because a command that only passes file names
needs neither.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge.errors import DataError, MissingPackageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_BYTES = 32 * 2**20
MAX_PIXELS = 50_000_000  # the largest images of common phones
_KEPT_SIDE = 1024  # pixels; larger images are reduced before any other step


def read_image_file(path: Path) -> bytes:
    """Read the content of an image file without decoding it.

    Raises:
        DataError: the path is missing, is not a regular file, cannot be read, or has over 32 MiB.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} cannot be read (not a regular file); give a PNG or JPEG image")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(
                f"{path} has {path.stat().st_size / 2**20:,.0f} MiB; the limit is"
                f" {MAX_BYTES // 2**20} MiB; make the image smaller"
            )
        return path.read_bytes()
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
        uint8 of shape (height, width, 3), each side under 2,048 pixels unless the
        image is very narrow.

    Raises:
        DataError: the file is not a PNG or JPEG image, is damaged, or has over 50 million pixels.
        MissingPackageError: Pillow is not installed.
    """
    import numpy as np

    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise MissingPackageError("pillow", "predict") from None
    if not content:
        raise DataError(f"{name} is empty; give a PNG or JPEG image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns at its own limit, which is different
            file = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        with file as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.draft(None, (_KEPT_SIDE, _KEPT_SIDE))  # decodes a JPEG at a reduced size
            return np.asarray(_on_white(ImageOps.exif_transpose(_reduce(image))), np.uint8)
    except UnidentifiedImageError:
        raise DataError(f"{name} is not a PNG or JPEG image; convert it to PNG") from None
    except Image.DecompressionBombError:
        raise DataError(
            f"{name} has more than {MAX_PIXELS:,} pixels; make the image smaller"
        ) from None
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError) as error:
        raise DataError(f"{name} is damaged ({error}); save the image again") from error


def _reduce(image: Image.Image) -> Image.Image:
    """Convert an image to 8 bits for each channel, and reduce a large image by a whole factor."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's conversion would clip at 255
        image = _eight_bits(image)
    elif image.has_transparency_data and image.mode != "RGBA":
        image = image.convert("RGBA")
    elif image.mode in ("P", "1"):  # the mean of palette indices is meaningless
        image = image.convert("RGB")
    factor = min(max(image.size) // _KEPT_SIDE, *image.size)
    return image.reduce(factor) if factor > 1 else image


def _eight_bits(image: Image.Image) -> Image.Image:
    import numpy as np
    from PIL import Image as Pillow

    grey = Pillow.fromarray((np.asarray(image, np.uint16) >> 8).astype(np.uint8))
    grey.info = {"exif": image.info["exif"]} if "exif" in image.info else {}
    return grey


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image as Pillow

    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Pillow.new("RGBA", image.size, "white")
    return Pillow.alpha_composite(white, image).convert("RGB")


def resize_image(
    image: npt.NDArray[np.uint8], shape: tuple[int, int, int]
) -> npt.NDArray[np.uint8]:
    """Resize an RGB image with bilinear interpolation, as `image_folder.load` does.

    Args:
        image: uint8 of shape (height, width, 3).
        shape: height, width and channels of the result; 1 channel converts to grey.

    Returns:
        uint8 of shape `shape`.
    """
    import numpy as np
    from PIL import Image

    height, width, channels = shape
    coloured = Image.fromarray(image).convert("L" if channels == 1 else "RGB")
    small = coloured.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small, np.uint8).reshape(shape)
