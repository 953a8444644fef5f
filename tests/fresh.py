"""README's two commands on a bare Debian: python -m tests.fresh [bookworm|trixie] [COMMAND...]

mmdebstrap makes a root with python3, python3-venv and make. A clean clone of HEAD is copied in, and
an ordinary user runs the commands. Needs root, mmdebstrap and git. The root uses the Debian archive
and the package index of this machine: its apt sources and its pip configuration.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests import needs
from tests.boards.userland import debian_archive

ROOT = Path(__file__).parents[1]
SUITES = ("bookworm", "trixie")
_PACKAGES = ("ca-certificates", "make", "python3", "python3-venv")
# Mount what a program expects, then give the command to an ordinary user. Both the mounts and the
# processes end with unshare.
_ENTER = """
set -eu
cd "$1"
mount -t proc proc proc
mount --rbind /dev dev
for path in $BIND; do mount --bind "$path" ".$path"; done
exec chroot . setpriv --reuid 1000 --regid 1000 --clear-groups \
  env --chdir /home/user/lenet-edge sh -c "$2"
"""


def missing() -> str | None:
    """Return the reason why this machine cannot make a root, or None."""
    if os.geteuid() != 0:
        return "making a Debian root needs root"
    if reason := needs.missing("mmdebstrap", "git", "unshare"):
        return reason
    if not (ROOT / ".git").exists():
        return f"{ROOT} is not a git clone"
    if not debian_archive():
        return "apt has no Debian archive: run apt-get update"
    return None


def readme_commands() -> list[str]:
    """Return the commands of README's first code block."""
    (block, *_) = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    return [line.split("#")[0].strip() for line in block.splitlines()]


def run(suite: str, commands: Sequence[str]) -> bool:
    """Make a root of a Debian release, run the commands in it, and print their results.

    Returns:
        True if every command exited with status 0.
    """
    results = []
    with tempfile.TemporaryDirectory(prefix=f"lenet-edge-{suite}-") as folder:
        root = Path(folder, "root")
        _make(suite, root)
        for command in commands:
            print(f"{suite}: {command}", flush=True)
            started = time.monotonic()
            status = _enter(root, command)
            minutes = (time.monotonic() - started) / 60
            results.append((command, status, minutes))
    for command, status, minutes in results:
        print(f"{suite}: {command}: exit status {status} after {minutes:.1f} minutes")
    return not any(status for _, status, _ in results)


def _make(suite: str, root: Path) -> None:
    include = f"--include={','.join(_PACKAGES)}"
    options = ["--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io", include]
    command = ["mmdebstrap", *options, suite, str(root), debian_archive()]
    subprocess.run(command, check=True)
    # This machine's certificates: its package index may need them.
    certificates = Path("etc/ssl/certs/ca-certificates.crt")
    shutil.copy("/" / certificates, root / certificates)
    home = root / "home/user"
    clone = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(home / "lenet-edge")]
    subprocess.run(clone, check=True)
    subprocess.run(["chown", "--recursive", "1000:1000", home], check=True)
    with (root / "etc/passwd").open("a") as file:
        file.write("user:x:1000:1000::/home/user:/bin/sh\n")


def _enter(root: Path, command: str) -> int:
    settings = _pip_settings()
    paths = [path for value in settings.values() for path in local_paths(value)]
    for path in paths:
        inside = root / path.relative_to("/")
        if path.is_dir():
            inside.mkdir(parents=True, exist_ok=True)
        else:
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/home/user",
        "LANG": "C.UTF-8",
        "BIND": " ".join(map(str, paths)),
        **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
        **settings,
    }
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    done = subprocess.run([*unshare, "sh", "-c", _ENTER, "sh", root, command], env=environment)
    return done.returncode


def _pip_settings() -> dict[str, str]:
    """Return this machine's configuration of pip as environment variables."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    lines = re.findall(r"^[\w:.]+\.([\w-]+)='(.*)'$", listed.stdout, re.M)
    return {f"PIP_{name.upper().replace('-', '_')}": value for name, value in lines}


def local_paths(value: str) -> list[Path]:
    """Return the files and folders of this machine that a setting names.

    The pages of an index in a folder refer to files beside that folder.
    """
    named = [Path(word.removeprefix("file://").removesuffix("/simple")) for word in value.split()]
    return [path for path in named if path.is_absolute() and path.exists()]


def main() -> int:
    """Run the commands of the command line, or README's, on one release or on both."""
    if reason := missing():
        sys.exit(reason)
    suites = sys.argv[1:2] or list(SUITES)
    commands = sys.argv[2:] or readme_commands()
    results = [run(suite, commands) for suite in suites]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
