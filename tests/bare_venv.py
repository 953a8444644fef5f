"""A virtual environment with a few packages of this Python, like a board without a runtime."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# The packages of a board before a runtime is installed.
BARE = ("click", "rich", "markdown_it", "mdurl", "pygments", "numpy", "numpy.libs")


class BareVenv:
    """A virtual environment with lenet_edge and only those packages that `add` links or copies."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(command, check=True, timeout=60)
        (self.packages,) = folder.glob("lib/python*/site-packages")
        self.python = folder / "bin" / "python"
        (self.packages / "lenet_edge").symlink_to(ROOT / "lenet_edge")

    def add(self, *names: str, copy: bool = False) -> None:
        click = find_spec("click")
        source = Path(os.fspath(click.origin or "")).parents[1]  # type: ignore[union-attr]
        for name in names:
            for path in (source / name, *source.glob(f"{name}-*.dist-info")):
                if path.exists():
                    copied = self.packages / path.name
                    shutil.copytree(path, copied) if copy else copied.symlink_to(path)

    def run_doctor(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Return the exit status of `doctor` and its findings by check."""
        command = [str(self.python), "-m", "lenet_edge", "doctor", "--json", "-", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, cwd=self.python.parent
        )
        assert "Traceback" not in done.stderr
        findings = json.loads(done.stdout)["findings"]
        return done.returncode, {finding["check"]: finding for finding in findings}
