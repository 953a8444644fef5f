"""The structure of PNG and JPEG files: its limits, and the parts that the pixels need.

A decoder sees only these parts. Text, colour profiles, animations and thumbnails are left out,
because small files can contain some that unpack to much memory. The limits bound the memory and
the time of a decoder, whatever the bytes of a file are. No function here decodes pixels.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from lenet_edge.errors import DataError

MAX_PIXELS = 50_000_000  # the largest images of common phones
MAX_SIDE = 65_500  # the format JPEG has the same limit
MAX_RATIO = 100  # of the sides; a panorama has 20 at most
MAX_SCANS = 64  # of a progressive JPEG; usual encoders write 10
MAX_DECODER_BYTES = 100_000_000  # the pixels of a PNG, or the coefficients of a progressive JPEG
MAX_SCANNED_BYTES = 20 * MAX_DECODER_BYTES  # each scan is a pass over the coefficients
_MAX_PARTS = 20_000  # chunks or segments; libpng writes chunks of 8 KiB
_MAX_JUNK = 1024  # bytes between the segments of a JPEG header

_PNG_SIGNATURE, _JPEG_SIGNATURE = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# Markers without a segment (TEM, RST, SOI) are left out, as decoders skip them or stop there.
_SEGMENT = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
_DHT, _DAC, _EOI, _SOS, _DQT, _DRI, _APP0, _APP1, _APP14 = (
    0xC4, 0xCC, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE,
)  # fmt: skip
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, 0xC8, _DAC}
_DECODED_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # not lossless, not hierarchical
_PROGRESSIVE = (0xC2, 0xCA)
_ORIENTATION = 0x0112  # tag of EXIF


@dataclass(frozen=True)
class PixelParts:
    """The parts of an image file that its pixels need.

    Attributes:
        content: a PNG or JPEG file of these parts only.
        orientation: the number of EXIF, 1 to 8; 1 means upright.
    """

    content: bytes
    orientation: int = 1


def extract_pixel_parts(content: bytes, name: str) -> PixelParts:
    """Check the limits of a PNG or JPEG file, and return the parts that its pixels need.

    Args:
        content: the content of the file.
        name: the name of the image in error messages.

    Raises:
        DataError: the file is not a PNG or JPEG image, is damaged, or exceeds a limit.
    """
    try:
        if content.startswith(_PNG_SIGNATURE):
            return _png_parts(content, name)
        if content.startswith(_JPEG_SIGNATURE):
            return _jpeg_parts(content, name)
    except (struct.error, IndexError, ZeroDivisionError):
        raise DataError(f"{name} is damaged (its header is cut short); save it again") from None
    raise DataError(f"{name} is not a PNG or JPEG image; convert it to PNG")


def _png_parts(content: bytes, name: str) -> PixelParts:
    view, start, orientation = memoryview(content), 8, 1
    parts = [view[:8]]
    for _ in range(_MAX_PARTS):
        if start + 8 > len(content):
            break
        length, kind = struct.unpack_from(">I4s", content, start)
        end = start + 12 + length
        if (kind == b"IHDR") != (start == 8):
            raise DataError(f"{name} is damaged (its header is misplaced); save it again")
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", content, start + 8)
            grey = colour in (0, 3)  # grey or a palette
            _check_size(width, height, name)
            _check_memory(width * height * (1 if grey and depth <= 8 else 2 if grey else 4), name)
        elif kind == b"eXIf":
            orientation = _exif_orientation(content[start + 8 : end - 4])
        if kind in _PNG_CHUNKS:
            parts.append(view[start:end])
        start = end
        if kind == b"IEND":
            break
    else:
        raise DataError(f"{name} has over {_MAX_PARTS:,} chunks; save it again")
    return PixelParts(b"".join(parts), orientation)


def _jpeg_parts(content: bytes, name: str) -> PixelParts:
    view, start, orientation, scans = memoryview(content), 2, 1, 0
    parts = [view[:2]]
    frame, is_progressive, coefficient_bytes = b"", False, 0
    for _ in range(_MAX_PARTS):
        match = _SEGMENT.search(content, start)
        if not match or match[1][0] == _EOI:
            break
        marker, data = match[1][0], match.end() + 2
        if not scans and match.start() - start > _MAX_JUNK:
            raise DataError(f"{name} is damaged (there is no JPEG header); save it again")
        start = match.end() + max(2, struct.unpack_from(">H", content, match.end())[0])
        if marker in _FRAMES:
            if frame or marker not in _DECODED_FRAMES:
                raise DataError(f"{name} is not a usual JPEG; save it as a baseline JPEG")
            frame, is_progressive = content[data:start], marker in _PROGRESSIVE
            height, width = struct.unpack_from(">HH", frame, 1)
            _check_size(width, height, name)
        elif marker == _APP1 and content.startswith(b"Exif\0\0", data):
            orientation = _exif_orientation(content[data + 6 : start])
        elif marker == _SOS:
            scans += 1
            if scans == 1:
                if is_progressive or content[data] < frame[5]:
                    coefficient_bytes = _coefficient_bytes(frame)
                _check_memory(coefficient_bytes, name)
                parts.append(view[match.start() :])
            if scans > MAX_SCANS or scans * coefficient_bytes > MAX_SCANNED_BYTES:
                raise DataError(f"{name} has over {scans - 1} scans; save it as a baseline JPEG")
            continue
        if not scans and marker in (*_FRAMES, _DHT, _DAC, _DQT, _DRI, _APP0, _APP14):
            parts.append(view[match.start() : start])
    else:
        raise DataError(f"{name} has over {_MAX_PARTS:,} segments; save it again")
    if not scans:
        raise DataError(f"{name} is damaged (it contains no pixels); save it again")
    return PixelParts(b"".join(parts), orientation)


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"{name} has more than {MAX_PIXELS:,} pixels; make the image smaller")
    longer, shorter = max(width, height), min(width, height)
    if longer > MAX_SIDE or longer / shorter > MAX_RATIO:
        raise DataError(
            f"{name} has {width:,} x {height:,} pixels; the limits are {MAX_SIDE:,} pixels a side"
            f" and a ratio of {MAX_RATIO}:1; crop the image"
        )


def _check_memory(decoder_bytes: int, name: str) -> None:
    if decoder_bytes > MAX_DECODER_BYTES:
        raise DataError(
            f"{name} takes {decoder_bytes / 1e6:.0f} MB to decode; the limit is"
            f" {MAX_DECODER_BYTES / 1e6:.0f} MB; make the image smaller or save it as a baseline"
            " JPEG"
        )


def _coefficient_bytes(frame: bytes) -> int:
    """Return the memory that a JPEG decoder needs to collect the coefficients of all scans."""
    height, width, count = struct.unpack_from(">HHB", frame, 1)
    samplings = [(frame[i] >> 4, frame[i] & 15) for i in range(7, 7 + 3 * count, 3)]
    widest, highest = (max(factors) for factors in zip(*samplings, strict=True))
    units = -(-width // (8 * widest)) * -(-height // (8 * highest))
    return int(units * sum(across * down for across, down in samplings) * 64 * 2)


def _exif_orientation(data: bytes) -> int:
    """Return the orientation in EXIF data, or 1 if they contain none.

    Only the entries of the first directory are read. Pillow copies the data of every tag, and
    tags that overlap take a hundred times the memory of the file.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 10:
        return 1
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return 1
    (count,) = struct.unpack_from(order + "H", data, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", data, entry)
        if (tag, kind) == (_ORIENTATION, 3):  # a 16-bit number
            return int(value) if 1 <= value <= 8 else 1
    return 1
