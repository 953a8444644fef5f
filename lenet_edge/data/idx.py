"""IDX file format, in which MNIST and similar data sets are published.

A file has two zero bytes, a type byte (8: unsigned byte), the number of dimensions, each dimension
as a big-endian 32-bit integer, and the data. Source: the description on the MNIST home page,
http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import math
import struct

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import DataError

_UNSIGNED_BYTE = 8


def decode(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Decode an IDX file of unsigned bytes.

    Args:
        content: the content of the file.
        name: the name of the file in error messages.

    Returns:
        A read-only array of the shape in the header.

    Raises:
        DataError: the file is not an IDX file of unsigned bytes, or is truncated.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise DataError(
            f"{name} is not an IDX file of unsigned bytes; if it is still compressed, decompress it"
        )
    rank = content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(f"{name} is truncated inside its header; download it again")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{name} holds {len(content) - start:,} bytes of data, but its header declares"
            f" {math.prod(shape):,}; download it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def encode(array: npt.NDArray[np.uint8]) -> bytes:
    """Encode an array of unsigned bytes, of any shape, as the content of an IDX file."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, _UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + array.tobytes()
