"""Settings in TOML: every file is read, or refused with a reason, in bounded time and memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_edge.support.toml_file import MAX_BYTES, parse_toml, read_settings

DEEP = {
    "dotted key": "a." * (MAX_BYTES // 2 - 4) + "a=1",
    "dotted keys": "".join(f"{'x.' * 99}k{n}=1\n" for n in range(MAX_BYTES // 208)) + "x",
    "dotted table": "[" + "a." * (MAX_BYTES // 2 - 4) + "a]",
    "arrays": "a=" + "[" * (MAX_BYTES - 4),
    "tables": "a=" + "{a=" * (MAX_BYTES // 3 - 4),
    "integer": "a=" + "9" * (MAX_BYTES - 4),
}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no tomllib")
@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_no_text_takes_long(text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text)
    started = time.process_time()
    with pytest.raises(ValueError, match=r"\w"):
        parse_toml(read_settings(tmp_path / "file"), "fleet")
    assert time.process_time() - started < 5


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 2**30)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_sparse, "has more than 262,144 bytes"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: path.write_bytes(b"\xff"), "can't decode"),
    ],
    ids=["100 GiB", "FIFO", "device", "folder", "bytes"],
)
def test_what_is_not_a_small_text(
    make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "file")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((ValueError, OSError), match=message):
        read_settings(tmp_path / "file")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
