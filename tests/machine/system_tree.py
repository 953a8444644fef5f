"""Trees of files that imitate /sys, /proc and /etc of other machines."""

from __future__ import annotations

from pathlib import Path


def write_tree(root: Path, **files: str) -> Path:
    """Write files under `root` and return it; "__" in the names stands for "/"."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
