"""Tests of reading and decoding PNG and JPEG files, valid and invalid."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lenet_edge.data import image_file
from lenet_edge.data.image_container import extract_pixel_parts
from lenet_edge.data.image_file import decode_image
from lenet_edge.errors import DataError
from tests.data.worst_images import WORST, chunk, jpeg, jpeg_of_scans, png, with_segments


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def half_dark(mode: str = "L", size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Return an image with a black left half and a white right half."""
    image = Image.new("L", size, 255)
    image.paste(0, (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def transparent(colour: int) -> Image.Image:
    """Return an image with a black left half and a transparent right half of grey `colour`."""
    image = Image.new("LA", (40, 20), (colour, 0))
    image.paste((0, 255), (0, 0, 20, 20))
    return image


def sixteen_bits() -> Image.Image:
    return Image.fromarray(
        np.where(np.arange(40) < 20, 0, 65_535).astype(np.uint16)[None].repeat(20, 0)
    )


@pytest.mark.parametrize(
    "content",
    [
        encode(half_dark()),
        encode(half_dark("RGB")),
        encode(half_dark("1")),
        encode(half_dark("P")),
        encode(half_dark("LA")),
        encode(half_dark("RGBA")),
        encode(transparent(0)),
        encode(transparent(255).convert("RGBA")),
        encode(half_dark("L"), transparency=255),
        encode(half_dark("P"), transparency=255),
        encode(sixteen_bits()),
        encode(half_dark(), "JPEG", quality=95),
        encode(half_dark("RGB"), "JPEG", quality=95, progressive=True),
        encode(half_dark("CMYK"), "JPEG", quality=95),
    ],
    ids=["L", "RGB", "1", "P", "LA", "RGBA", "transparent black", "transparent white", "tRNS",
         "P tRNS", "16 bits", "JPEG", "progressive", "CMYK"],
)  # fmt: skip
def test_every_pixel_format_becomes_rgb(content: bytes) -> None:
    image = decode_image(content, "x")
    assert image.shape == (20, 40, 3)
    assert image.dtype == np.uint8
    assert image[:, :18].max() < 30
    assert image[:, 22:].min() > 225


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("orientation", "dark"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")]
)
def test_the_image_is_rotated_by_its_exif_orientation(
    format: str, orientation: int, dark: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encode(half_dark(), format, exif=exif), "x")
    thirds = [image[:, :10], image[:, -10:], image[:6], image[-6:]]
    means = dict(zip(("left", "right", "top", "bottom"), (t.mean() for t in thirds), strict=True))
    assert min(means, key=lambda side: means[side]) == dark


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_large_photo_is_reduced(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_image(encode(half_dark("RGB", (4000, 3000)), format, exif=exif), "x")
    assert max(image.shape) <= 2048
    assert image.shape[0] > image.shape[1]
    assert image[10].mean() < 10
    assert image[-10].mean() > 245


def header(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """Return a PNG file that declares this size and holds a single row, of at most a megabyte."""
    fields = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * min(width + 1, 1_000_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", fields) + pixels + chunk(b"IEND", b"")


COMMENT = b"\xff\xfe\0\2"
BAD = {
    "text": (b"Dear diary, today I drew a seven.", "x.png is not a PNG or JPEG image"),
    "empty": (b"", "x.png is empty"),
    "cut short PNG": (encode(half_dark())[:60], "x.png is damaged"),
    "cut short JPEG": (encode(half_dark("RGB", (400, 400)), "JPEG")[:700], "x.png is damaged"),
    "GIF": (encode(half_dark(), "GIF"), "x.png is not a PNG or JPEG image"),
    "20,000 pixels a side": (header(20_000, 20_000), "x.png has more than 50,000,000 pixels"),
    "10,000 pixels a side": (header(10_000, 10_000), "x.png has more than 50,000,000 pixels"),
    "2,000,000,000 pixels a side": (header(2**31 - 1, 2**31 - 1), "x.png has more than"),
    "no pixels": (header(0, 0), "x.png is"),
    "one column": (header(1, 40_000_000), "x.png has 1 x 40,000,000 pixels; the limits are"),
    "one row": (header(40_000_000, 1), "x.png has 40,000,000 x 1 pixels; the limits are"),
    "101:1": (header(10_100, 100), "x.png has 10,100 x 100 pixels; the limits are 65,500 pixels"),
    "30 million RGBA": (header(6_000, 5_000, 8, 6), "x.png takes 120 MB to decode; the limit is"),
    "two sizes": (header(9, 9)[:33] + header(9, 9)[8:], "x.png is damaged"),
    "20,001 chunks": (header(9, 9)[:33] + chunk(b"tEXt", b"a\0") * 20_001, "x.png has over 20,000"),
    "2,000 scans": (jpeg_of_scans(64, 64, 2_000), "x.png has over 64 scans"),
    "many pixels, 30 scans": (jpeg_of_scans(8_000, 4_800, 30), "x.png has over 26 scans"),
    "20,001 segments": (with_segments(jpeg(9, 9), COMMENT * 20_001), "x.png has over 20,000"),
    "fill bytes": (with_segments(jpeg(9, 9), b"\xff" * 9_999), "x.png is damaged"),
    "only a header": (jpeg(9, 9)[:40], "x.png is damaged"),
    "lossless": (jpeg(9, 9).replace(b"\xff\xc0", b"\xff\xc3"), "x.png is not a usual JPEG"),
    "50 MP, progressive CMYK": (
        jpeg(80, 50, "CMYK", progressive=True).replace(b"\0\x32\0\x50", b"\x13\x88\x27\x10"),
        "x.png takes 400 MB to decode",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_the_error_for_an_invalid_image_is_one_line(name: str) -> None:
    content, message = BAD[name]
    with pytest.raises(DataError) as caught:
        decode_image(content, "x.png")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(8160, 6125), (20_000, 1_000), (600, 12_000)])
def test_a_photo_of_a_phone_and_a_panorama_are_within_the_limits(size: tuple[int, int]) -> None:
    image = decode_image(jpeg(*size, "RGB"), "x")
    assert max(image.shape) < 2048
    assert image.shape[0] / image.shape[1] == pytest.approx(size[1] / size[0], rel=0.1)


@pytest.mark.costly
@pytest.mark.parametrize(
    "name",
    [
        "PNG, 50 MP of 16 bits",
        "PNG, 50 MP, palette with alpha",
        "JPEG, 50 MP, CMYK",
        "JPEG, the most coefficients",
        "JPEG, EXIF tags that overlap",
    ],
)
def test_decoding_uses_bounded_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(WORST[name]())
    code = (
        "import sys; from pathlib import Path; from lenet_edge.data.image_file import decode_image;"
        "decode_image(Path(sys.argv[1]).read_bytes(), 'x');"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) / 1024 < 200  # MiB, with 40 for Python and 100 MB for the decoder


def test_parts_that_pixels_do_not_need_are_left_out() -> None:
    """They hold bombs, such as 60 texts that unpack to 8 MiB each."""
    texts = png(9, 9, before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**23))) * 60)
    animation = png(9, 9, before=chunk(b"acTL", struct.pack(">II", 2**30, 0)))
    comments = with_segments(jpeg(9, 9), COMMENT * 1_000)
    for content in (texts, animation, comments):
        assert len(extract_pixel_parts(content, "x").content) < 1_000
        assert decode_image(content, "x").shape == (9, 9, 3)


def test_scans_behind_an_end_marker_in_a_comment_are_counted() -> None:
    content = jpeg_of_scans(64, 64, 70)
    last = content.rindex(b"\xff\xda")
    hidden = content[:last].replace(b"\xff\xda", b"\xff\xfe\0\4\xff\xd9\xff\xda") + content[last:]
    with pytest.raises(DataError, match="over 64 scans"):
        decode_image(hidden, "x")


@given(st.data())
def test_a_damaged_file_is_decoded_or_an_error(data: st.DataObject) -> None:
    content = bytearray(encode(half_dark("RGB"), data.draw(st.sampled_from(["PNG", "JPEG"]))))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    with contextlib.suppress(DataError):
        assert decode_image(bytes(content), "x").ndim == 3


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        image_file.read_image_file(tmp_path / "missing.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        image_file.read_image_file(tmp_path / "folder.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="not a regular file"):
        image_file.read_image_file(tmp_path / "pipe.png")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match="the limit is 32"):
        image_file.read_image_file(tmp_path / "huge.png")
