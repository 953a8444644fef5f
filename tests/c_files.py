"""Changed copies of exported C files, with manifests of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lenet_edge.artifacts.artifact import Artifact, load_artifact, write_manifest
from lenet_edge.support.files import sha256_of


def write_changed(original: Path, path: Path, text: str) -> Artifact:
    """Write a C file with a changed text, and its manifest; return the artifact.

    Args:
        original: the exported C file.
        path: the file to write.
        text: its text.
    """
    path.write_text(text)
    changed = replace(
        load_artifact(original),
        path=path,
        sha256=sha256_of(path),
        size_bytes=path.stat().st_size,
    )
    write_manifest(changed)
    return changed
