"""Tests of the IDX file format."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_edge.data import idx
from lenet_edge.errors import DataError

SMALL = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def test_the_header_follows_the_published_format() -> None:
    # magic 0x00000803 (unsigned byte, three dimensions), then 2, 3, 4, all big-endian
    assert idx.encode(SMALL)[:16].hex() == "00000803000000020000000300000004"
    assert idx.encode(SMALL)[16:] == bytes(range(24))


@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_decoding_restores_every_array(shape: list[int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    decoded = idx.decode(idx.encode(array), "train.idx")
    assert decoded.dtype == np.uint8
    assert decoded.shape == array.shape
    assert np.array_equal(decoded, array)


@given(length=st.integers(0, len(idx.encode(SMALL)) - 1))
def test_a_file_truncated_anywhere_is_an_error(length: int) -> None:
    with pytest.raises(DataError, match=r"train\.idx"):
        idx.decode(idx.encode(SMALL)[:length], "train.idx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "is not an IDX file"),
        (b"\0\0\x0d\x01" + bytes(8), "of unsigned bytes"),  # 0x0d: float32
        (gzip.compress(idx.encode(SMALL), mtime=0), "still compressed, decompress it"),
        (idx.encode(SMALL)[:9], "truncated inside its header"),
        (idx.encode(SMALL)[:-1], "holds 23 bytes of data, but its header declares 24"),
        (idx.encode(SMALL) + b"!", "holds 25 bytes of data, but its header declares 24"),
    ],
)
def test_the_error_names_what_is_wrong_with_a_file(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"images.idx.*{message}"):
        idx.decode(content, "images.idx")
