"""The command line, as a user meets it: a real process in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

LenetEdge = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lenet_edge(tmp_path: Path) -> LenetEdge:
    """Run ``lenet-edge ARGUMENTS`` in an empty folder."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lenet_edge", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
        )

    return run
