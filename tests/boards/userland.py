"""What is installed on an emulated board before anybody deploys to it: Debian's Python and sshd.

Debian's packages are unpacked into a folder of the user's cache, once. Their installation scripts
are left out, because those are what takes minutes under emulation; `_settle` does what they would.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ENTER = Path(__file__).with_name("enter.sh")
_PACKAGES = (
    "base-files", "base-passwd", "bash", "coreutils", "dash", "findutils", "grep", "gzip",
    "hostname", "libc-bin", "libfaketime", "libstdc++6", "mawk", "openssh-server", "procps",
    "python3-venv", "sed", "tar", "util-linux",
)  # fmt: skip
_LEFT_OUT = ("doc", "locale", "man", "tests")
# Part of the cache's key: to be raised when `build` or `_settle` do something else.
_VERSION = 2


@dataclass(frozen=True)
class Userland:
    """A release of Debian for Debian's name of a processor."""

    suite: str
    architecture: str
    extra: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian's names of what is installed."""
        return (*_PACKAGES, *self.extra)

    @property
    def libfaketime(self) -> str:
        """The library that sets a program's clock off."""
        triplet = {"arm64": "aarch64-linux-gnu", "armhf": "arm-linux-gnueabihf"}[self.architecture]
        return f"/usr/lib/{triplet}/faketime/libfaketime.so.1"

    @property
    def folder(self) -> Path:
        """Where it is kept, named by what goes into it."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        key = hashlib.sha256(repr((_VERSION, self)).encode() + repr(_PACKAGES).encode()).hexdigest()
        return cache / "lenet-edge/boards" / f"{self.suite}-{self.architecture}-{key[:12]}"


USERLANDS = {
    "bookworm-arm64": Userland("bookworm", "arm64"),
    "trixie-arm64": Userland("trixie", "arm64"),
    # No index has a 32-bit wheel of NumPy.
    "bookworm-armhf": Userland("bookworm", "armhf", ("python3-numpy",)),
    # Python 3.9: older than lenet-edge takes.
    "bullseye-arm64": Userland("bullseye", "arm64"),
}


def missing() -> str | None:
    """Return why no board can be built or run here; None where it can."""
    if os.geteuid() != 0:
        return "an emulated board needs root"
    for program in ("apt-get", "mmdebstrap", "ssh", "ssh-keygen", "unshare"):
        if not shutil.which(program):
            return f"{program} is not installed"
    if not Path("/usr/lib/binfmt.d/qemu-aarch64.conf").exists():
        return "qemu-user-static is not installed"
    tried = subprocess.run([ENTER, "true"], capture_output=True, text=True)
    if tried.returncode:
        return f"this system lets nobody mount or emulate: {tried.stderr.strip()}"
    if not _mirror():
        return "apt knows no Debian archive: run apt-get update"
    return None


def build(userland: Userland) -> Path:
    """Return the folder of a userland, building it where that was not done yet."""
    done = userland.folder
    done.parent.mkdir(parents=True, exist_ok=True)
    with (done.parent / f"{done.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            return done
        root = done.with_name(f"{done.name}.part")
        shutil.rmtree(root, ignore_errors=True)
        made = subprocess.run(
            [
                ENTER, "mmdebstrap", "--quiet", "--variant=extract",
                f"--architecture={userland.architecture}",
                f"--include={','.join(userland.packages)}",
                "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
                "--dpkgopt=force-unsafe-io",
                *(f"--dpkgopt=path-exclude=*/{it}/*" for it in _LEFT_OUT),
                userland.suite, root, _mirror(),
            ],
            capture_output=True,
            text=True,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"mmdebstrap failed: {made.stderr[-2000:]}")
        _settle(root)
        root.rename(done)
    return done


def _mirror() -> str:
    """Return the Debian archive that this machine's own apt uses."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    wanted = ["Created-By: Packages", "Label: Debian"]
    found = subprocess.run([*command, *wanted], capture_output=True, text=True)
    return found.stdout.split("\n")[0]


def _settle(root: Path) -> None:
    """Do what the installation scripts of Debian's packages would have done."""
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
    # This machine's own, which mmdebstrap copies: a board resolves no names, so it has no internet.
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    libraries = [f"/{it.relative_to(root)}" for it in root.glob("usr/lib/python3*")]
    precompile = ["python3", "-m", "compileall", "-q", *libraries]
    subprocess.run([ENTER, "chroot", root, *precompile], check=True)
