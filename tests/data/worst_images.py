"""Image files that cost a decoder the most memory or time, made by construction."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from lenet_edge.data.image_container import MAX_DECODER_BYTES, MAX_SCANNED_BYTES, MAX_SCANS

_MIB = 2**20
_UPLOAD_BYTES = 16 * _MIB - 2**16  # `serve` accepts 16 MiB
_FILL = b"\xff" * (_UPLOAD_BYTES - 999)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    depth: int = 8,
    colour: int = 0,
    *,
    interlaced: bool = False,
    before: bytes = b"",
    row: bytes | None = None,
) -> bytes:
    """Return a PNG file of equal rows that need the Paeth filter.

    Args:
        width, height: the size in pixels.
        depth: bits of a channel.
        colour: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA.
        interlaced: write the seven passes of Adam7.
        before: chunks between the header and the pixels.
        row: one row with its filter byte; by default bytes that are all 1.
    """  # fmt: skip
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    packer = zlib.compressobj(9)
    pixels = b""
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                  (1, 0, 2, 2), (0, 1, 1, 2)]  # fmt: skip
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        line = row or b"\x04" + b"\x01" * -(-columns * channels * depth // 8)
        together = max(1, _MIB // len(line))
        for start in range(0, rows, together):
            pixels += packer.compress(line * min(together, rows - start))
    fields = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if colour == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", fields)
        + palette
        + before
        + chunk(b"IDAT", pixels + packer.flush())
        + chunk(b"IEND", b"")
    )


def jpeg(width: int, height: int, mode: str = "L", **options: object) -> bytes:
    """Return a JPEG file of one colour."""
    content = io.BytesIO()
    Image.new(mode, (width, height)).save(content, "JPEG", **options)
    return content.getvalue()


def jpeg_of_scans(width: int, height: int, count: int, mode: str = "L") -> bytes:
    """Return a progressive JPEG whose last scan is repeated, so that it has `count` scans."""
    content = jpeg(width, height, mode, progressive=True)
    starts = [i for i in range(len(content)) if content[i : i + 2] == b"\xff\xda"]
    scan = content[starts[-1] : -2]
    return content[:-2] + scan * (count - len(starts)) + content[-2:]


def with_segments(content: bytes, segments: bytes) -> bytes:
    """Return a JPEG file with more segments after its first marker."""
    return content[:2] + segments + content[2:]


def overlapping_exif(size: int, tags: int) -> bytes:
    """Return EXIF data of some tags, each of which claims nearly all of the bytes."""
    entries = b"".join(
        struct.pack("<HHII", 0x1000 + tag, 7, size - 20 - 12 * tags, 14 + 12 * tags)
        for tag in range(tags)
    )
    head = b"II*\0" + struct.pack("<IH", 8, tags) + entries + bytes(4)
    return head + bytes(size - len(head))


def _exif_segments() -> bytes:
    data = b"Exif\0\0" + overlapping_exif(65_000, 5_000)
    return b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data


def _noise() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (4000, 4000), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=1)
    return content.getvalue()


def _noise_jpeg() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (3400, 3400), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=97)
    return content.getvalue()


def _bomb(kind: bytes, prefix: bytes) -> bytes:
    return chunk(kind, prefix + zlib.compress(bytes(8 * _MIB), 9))


def _progressive_size(coefficient_bytes: int) -> tuple[int, int]:
    side = int((coefficient_bytes / 2) ** 0.5) // 8 * 8
    return side, side


WORST: dict[str, Callable[[], bytes]] = {
    "PNG, 1 x 40,000,000": lambda: png(1, 40_000_000),
    "PNG, 40,000,000 x 1": lambda: png(40_000_000, 1),
    "PNG, 50 MP of 8 bits": lambda: png(10_000, 5_000),
    "PNG, 50 MP of 16 bits": lambda: png(10_000, 5_000, 16),
    "PNG, 50 MP of 1 bit": lambda: png(10_000, 5_000, 1),
    "PNG, 50 MP, palette with alpha": lambda: png(
        10_000, 5_000, 8, 3, before=chunk(b"tRNS", bytes(200))
    ),
    "PNG, 25 MP, RGBA of 16 bits": lambda: png(5_000, 5_000, 16, 6),
    "PNG, 25 MP, RGBA of 16 bits, interlaced": lambda: png(5_000, 5_000, 16, 6, interlaced=True),
    "PNG, 50 MP, interlaced": lambda: png(10_000, 5_000, interlaced=True),
    "PNG, 65,500 x 655": lambda: png(65_500, 655, 16),
    "PNG, 655 x 65,500": lambda: png(655, 65_500, 16),
    "PNG, 50 MP of RGBA": lambda: png(10_000, 5_000, 8, 6),
    "PNG, 2,047 pixels a side, noise": lambda: png(2_047, 2_047, row=_noise_row()),
    "PNG, 16 MP of noise": _noise,
    "PNG, 16 MiB of empty texts": lambda: png(
        9, 9, before=chunk(b"tEXt", b"a\0") * (_UPLOAD_BYTES // 14)
    ),
    "PNG, 16 MiB of empty IDATs": lambda: png(
        9, 9, before=chunk(b"IDAT", b"") * (_UPLOAD_BYTES // 12)
    ),
    "PNG, 60 texts of 8 MiB": lambda: png(9, 9, before=_bomb(b"zTXt", b"a\0\0") * 60),
    "PNG, a profile of 8 MiB": lambda: png(9, 9, before=_bomb(b"iCCP", b"a\0\0")),
    "PNG, EXIF tags that overlap": lambda: png(
        9, 9, before=chunk(b"eXIf", overlapping_exif(8 * _MIB, 60_000))
    ),
    "JPEG, 50 MP": lambda: jpeg(10_000, 5_000, "RGB", subsampling=0),
    "JPEG, 50 MP, CMYK": lambda: jpeg(10_000, 5_000, "CMYK"),
    "JPEG, noise": _noise_jpeg,
    "JPEG, 50 MP, progressive": lambda: jpeg(10_000, 5_000, "CMYK", progressive=True),
    "JPEG, 2,000 scans": lambda: jpeg_of_scans(4_000, 4_000, 2_000),
    "JPEG, the most coefficients": lambda: jpeg_of_scans(
        *_progressive_size(MAX_DECODER_BYTES), MAX_SCANNED_BYTES // MAX_DECODER_BYTES
    ),
    "JPEG, the most scans": lambda: jpeg_of_scans(
        *_progressive_size(MAX_SCANNED_BYTES // MAX_SCANS), MAX_SCANS
    ),
    "JPEG, 16 MiB of empty comments": lambda: with_segments(
        jpeg(9, 9), b"\xff\xfe\0\2" * (_UPLOAD_BYTES // 4)
    ),
    "JPEG, EXIF tags that overlap": lambda: with_segments(jpeg(9, 9), _exif_segments()),
    "JPEG, 16 MiB of fill bytes": lambda: with_segments(jpeg(9, 9), _FILL),
    "16 MiB of 0xFF": lambda: b"\xff" * _UPLOAD_BYTES,
}  # fmt: skip


def _noise_row() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, 2_047, np.uint8)
    return b"\0" + pixels.tobytes()
