"""Fixtures of the verification tests: a copy of the exports that a test can change."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import load_artifact, manifest_path, write_manifest
from lenet_edge.support.files import sha256_of


@pytest.fixture
def own(exports: Path, tmp_path: Path) -> Path:
    """Return a copy of the exports that a test can change."""
    return Path(shutil.copytree(exports, tmp_path / "own"))


def rewrite(path: Path, content: bytes, **changes: object) -> None:
    """Replace a model file and update its manifest, with `changes` to its other fields."""
    artifact = load_artifact(path)
    path.write_bytes(content)
    write_manifest(
        dataclasses.replace(
            artifact,
            sha256=sha256_of(path),
            size_bytes=len(content),
            **changes,  # type: ignore[arg-type]
        )
    )
    assert manifest_path(path).exists()
