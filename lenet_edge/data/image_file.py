"""Image files as pixels: PNG and JPEG, as cameras, scanners and drawing programs write them.

Decoding needs Pillow. Its memory is bounded, and only the two formats are tried: images come from
strangers. NumPy and Pillow are imported where they are used: a command that only names images needs
neither.
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
MAX_PIXELS = 50_000_000  # the largest that common phones take
_KEPT_SIDE = 1024  # pixels; what is larger is reduced before anything else is made of it


def read_image_file(path: Path) -> bytes:
    """Return the content of an image file.

    Raises:
        DataError: it cannot be read, or is larger than any image that is worth decoding.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} cannot be read (it is no file); give a PNG or JPEG image")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(
                f"{path} has {path.stat().st_size / 2**20:,.0f} MiB; the limit is"
                f" {MAX_BYTES // 2**20}: make the image smaller"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give a PNG or JPEG image or a folder") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the file") from error


def decode_image(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Return an image as uint8 of shape (height, width, 3), at most about 1,024 pixels a side.

    It is turned as its EXIF data say, what is transparent becomes white, and grey, 16-bit, palette
    and CMYK images become RGB.

    Args:
        content: the bytes of the file.
        name: what to call it in an error.

    Raises:
        DataError: it is no PNG or JPEG, is damaged, or has too many pixels.
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
            warnings.simplefilter("ignore")  # Pillow's own limits are other ones
            opened = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        with opened as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.draft(None, (_KEPT_SIDE, _KEPT_SIDE))  # a JPEG is decoded at a part of its size
            return np.asarray(_on_white(ImageOps.exif_transpose(_reduce(image))), np.uint8)
    except UnidentifiedImageError:
        raise DataError(f"{name} is not a PNG or JPEG image; save it as one of them") from None
    except Image.DecompressionBombError:
        raise DataError(
            f"{name} has more than {MAX_PIXELS:,} pixels; make the image smaller"
        ) from None
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError) as error:
        raise DataError(f"{name} is damaged ({error}); save the image again") from error


def _reduce(image: Image.Image) -> Image.Image:
    """Return it as 8-bit greys or colours, and no larger than need be."""
    if image.mode.startswith("I"):  # 16-bit greys; Pillow's own conversion cuts them off at 255
        image = _eight_bits(image)
    elif image.has_transparency_data and image.mode != "RGBA":
        image = image.convert("RGBA")
    elif image.mode in ("P", "1"):  # there is no mean of a palette's numbers
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
    """Return an RGB image scaled to (height, width, channels), as folders of images are read."""
    import numpy as np
    from PIL import Image

    height, width, channels = shape
    coloured = Image.fromarray(image).convert("L" if channels == 1 else "RGB")
    small = coloured.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small, np.uint8).reshape(shape)
