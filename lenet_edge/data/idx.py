"""The IDX format, in which MNIST and its relatives are published.

Source: the format's description on the MNIST home page: two zero bytes, a type byte (8 is
unsigned byte), the number of dimensions, each dimension as a big-endian 32-bit integer, the data.
"""

from __future__ import annotations

import math
import struct

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import DataError

_UNSIGNED_BYTE = 8


def decode(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Return the array that an IDX file of unsigned bytes holds; `name` is for the error.

    Raises:
        DataError: it is not such a file, or it is cut short.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise DataError(f"{name} is not an IDX file of unsigned bytes; is it still compressed?")
    rank = content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(f"{name} is cut short inside its header; get the file again")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{name} holds {len(content) - start:,} bytes of data where its header promises"
            f" {math.prod(shape):,}; get the file again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def encode(array: npt.NDArray[np.uint8]) -> bytes:
    """Return the bytes of the IDX file that holds `array`."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, _UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + array.tobytes()
