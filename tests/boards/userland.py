"""The userlands of emulated boards: Debian with Python and sshd, before any deployment.

Debian's packages are unpacked once, into a folder of the user's cache. Their installation scripts
do not run, because they take minutes under emulation. `_configure` does their work instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests import needs

ENTER = Path(__file__).with_name("enter.sh")
_PACKAGES = (
    "base-files", "base-passwd", "bash", "coreutils", "dash", "findutils", "grep", "gzip",
    "hostname", "libc-bin", "libfaketime", "libstdc++6", "mawk", "openssh-server", "procps",
    "python3-venv", "sed", "tar", "util-linux",
)  # fmt: skip
_LEFT_OUT = ("doc", "locale", "man", "tests")
# Part of the cache key. Increase it when `build` or `_configure` change.
_VERSION = 2


@dataclass(frozen=True)
class Userland:
    """A release of Debian on an architecture, which is named as Debian does."""

    suite: str
    architecture: str
    extra: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """The Debian packages to install."""
        return (*_PACKAGES, *self.extra)

    @property
    def libfaketime(self) -> str:
        """The library that shifts the clock of a program."""
        triplet = {"arm64": "aarch64-linux-gnu", "armhf": "arm-linux-gnueabihf"}[self.architecture]
        return f"/usr/lib/{triplet}/faketime/libfaketime.so.1"

    @property
    def folder(self) -> Path:
        """The folder in the cache, named by a hash of the content."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        key = hashlib.sha256(repr((_VERSION, self)).encode() + repr(_PACKAGES).encode()).hexdigest()
        return cache / "lenet-edge/boards" / f"{self.suite}-{self.architecture}-{key[:12]}"


USERLANDS = {
    "bookworm-arm64": Userland("bookworm", "arm64"),
    "trixie-arm64": Userland("trixie", "arm64"),
    # The package index has no 32-bit wheel of NumPy.
    "bookworm-armhf": Userland("bookworm", "armhf", ("python3-numpy",)),
    "trixie-armhf": Userland("trixie", "armhf", ("python3-numpy",)),
    # Python 3.9, which is too old for lenet-edge.
    "bullseye-arm64": Userland("bullseye", "arm64"),
}


def why_unavailable() -> str | None:
    """Return why this machine cannot build or run a board, or None if it can."""
    if os.geteuid() != 0:
        return "an emulated board needs root"
    if not shutil.which("apt-get"):
        return "apt-get is not installed"
    if reason := needs.missing("mmdebstrap", "ssh", "ssh-keygen", "unshare"):
        return reason
    if not Path("/usr/lib/binfmt.d/qemu-aarch64.conf").exists():
        return needs.advice("qemu-user-static is not installed", ["qemu-user-static"])
    done = subprocess.run([ENTER, "true"], capture_output=True, text=True)
    if done.returncode:
        return f"this system does not allow mounts or emulation: {done.stderr.strip()}"
    if not debian_archive():
        return "apt has no Debian archive: run apt-get update"
    return None


def build(userland: Userland) -> Path:
    """Return the folder of a userland, and build it if it does not exist yet."""
    folder = userland.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        root = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(root, ignore_errors=True)
        done = subprocess.run(
            [
                ENTER, "mmdebstrap", "--quiet", "--variant=extract",
                f"--architecture={userland.architecture}",
                f"--include={','.join(userland.packages)}",
                "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
                "--dpkgopt=force-unsafe-io",
                *(f"--dpkgopt=path-exclude=*/{name}/*" for name in _LEFT_OUT),
                userland.suite, root, debian_archive(),
            ],
            capture_output=True,
            text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"mmdebstrap failed: {done.stderr[-2000:]}")
        _configure(root)
        root.rename(folder)
    return folder


def debian_archive() -> str:
    """Return the address of the Debian archive that apt uses on this machine."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    filters = ["Created-By: Packages", "Label: Debian"]
    done = subprocess.run([*command, *filters], capture_output=True, text=True)
    return done.stdout.split("\n")[0]


def _configure(root: Path) -> None:
    """Do the work of the installation scripts of the packages."""
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / f"etc/{name}")
    with (root / "etc/passwd").open("a") as file:
        file.write("sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n")
        file.write("pi:*:1000:1000:pi:/home/pi:/bin/bash\n")
    with (root / "etc/group").open("a") as file:
        file.write("pi:x:1000:\n")
    if not (root / "bin/sh").exists():
        (root / "bin/sh").symlink_to("dash")
    (root / "bin/awk").symlink_to("mawk")
    for name in ("blas", "lapack"):
        for library in root.glob(f"usr/lib/*/{name}/lib{name}.so.3"):
            (library.parents[1] / library.name).symlink_to(f"{name}/{library.name}")
    # mmdebstrap copies the file of this machine. Without it a board resolves no names, so that it
    # has no access to the internet.
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    libraries = [f"/{path.relative_to(root)}" for path in root.glob("usr/lib/python3*")]
    precompile = ["python3", "-m", "compileall", "-q", *libraries]
    subprocess.run([ENTER, "chroot", root, *precompile], check=True)
