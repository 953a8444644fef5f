"""The commit of the git repository that holds a folder.

Git runs programs that the configuration of a repository names: filters, monitors and hooks. The
repository may be untrusted. Only `git rev-parse`, which runs none of them, reads it. `git status`
runs in a temporary repository with the same objects, index and files, and an empty configuration.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.errors import LenetEdgeError
from lenet_edge.support.temporary import temporary_folder

_TIMEOUT_S = 10
_SHORT = 12  # digits of a commit
_CONFIGURATION = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n"


@dataclass(frozen=True)
class Revision:
    """Commit of a repository.

    Attributes:
        commit: the first digits of the hash.
        is_dirty: whether a tracked file differs from the commit; None if git cannot tell.
    """

    commit: str
    is_dirty: bool | None


@functools.cache
def read_revision(folder: Path) -> Revision | None:
    """Return the commit of the repository that holds a folder; None without repository or git."""
    git = shutil.which("git")
    if git is None:
        return None
    # A relative path, from a PATH such as ".", would name a program in the repository.
    git = os.path.abspath(git)
    commit = (_call([git, "rev-parse", "HEAD"], folder) or "").strip()
    return Revision(commit[:_SHORT], _is_dirty(git, folder, commit)) if commit else None


def _is_dirty(git: str, folder: Path, commit: str) -> bool | None:
    paths = _call(
        [git, "rev-parse", "--show-toplevel", "--git-path", "index", "--git-path", "objects"],
        folder,
    )
    if paths is None or len(paths.splitlines()) != 3:
        return None
    top, index, objects = (folder / line for line in paths.splitlines())
    try:
        with temporary_folder() as temporary:
            for name in ("objects/info", "refs"):
                (temporary / name).mkdir(parents=True)
            (temporary / "config").write_text(_CONFIGURATION, encoding="utf-8")
            (temporary / "HEAD").write_text(f"{commit}\n", encoding="utf-8")
            alternates = temporary / "objects" / "info" / "alternates"
            alternates.write_text(f"{objects.resolve()}\n", encoding="utf-8")
            shutil.copyfile(index, temporary / "index")
            status = _call(
                [git, f"--git-dir={temporary}", f"--work-tree={top}",
                 "-c", "core.fsmonitor=false", "status", "--porcelain", "--untracked-files=no",
                 "--ignore-submodules=all"], top,
            )  # fmt: skip
    except (OSError, LenetEdgeError):
        return None
    return None if status is None else bool(status.strip())


def _call(command: list[str], folder: Path) -> str | None:
    """Return what git prints in a folder; None if it fails."""
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
