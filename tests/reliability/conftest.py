"""Fixtures: inputs of the commands, and a function that runs a command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.reliability.jobs import make_inputs

Run = Callable[[Path, Sequence[object]], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints and a small data set."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture
def run() -> Run:
    """Run ``lenet-edge ARGUMENTS`` in a folder."""

    def in_folder(folder: Path, arguments: Sequence[object]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lenet_edge", *map(str, arguments)]
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=600
        )

    return in_folder
