"""Which Python packages fit a board, fetched here, because a board may have no network.

What a runtime needs is what `pyproject.toml` says of its extra; whether there is a wheel for a
board, the package index says.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.errors import BoardError
from lenet_edge.runtimes import deployables, get_deployable
from lenet_edge.support.files import cache_folder, sha256_of

OLDEST_PYTHON = (3, 10)


@dataclass(frozen=True)
class System:
    """What decides which wheels fit: machine as Python names it, Python and glibc."""

    machine: str
    python: tuple[int, int]
    glibc: int  # the minor version: 2.36 is 36

    @property
    def is_32_bit_arm(self) -> bool:
        """Whether packages that need a compiler come from Debian alone: the index has none."""
        return self.machine in ("armv7l", "armv6l")

    def __str__(self) -> str:
        return f"{self.machine}, Python {self.python[0]}.{self.python[1]}, glibc 2.{self.glibc}"


# Raspberry Pi OS is Debian; source: the packages python3 and libc6 of each release.
SYSTEMS = {
    "bookworm-amd64": System("x86_64", (3, 11), 36),
    "bookworm-arm64": System("aarch64", (3, 11), 36),
    "bookworm-armhf": System("armv7l", (3, 11), 36),
    "trixie-amd64": System("x86_64", (3, 13), 41),
    "trixie-arm64": System("aarch64", (3, 13), 41),
    "trixie-armhf": System("armv7l", (3, 13), 41),
}


@dataclass(frozen=True)
class Fitting:
    """The runtimes chosen for a board, and the wheels that bring them."""

    runtimes: tuple[str, ...]
    wheels: tuple[Path, ...]

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each wheel, by its file name."""
        return {path.name: sha256_of(path) for path in self.wheels}

    @property
    def id(self) -> str:
        """What names a venv of these very wheels: 12 hexadecimal digits."""
        return hashlib.sha256(repr(sorted(self.hashes.items())).encode()).hexdigest()[:12]


def fit(system: System, runtimes: Sequence[str] = ()) -> Fitting:
    """Return the wheels for a board; they are kept in the user's cache.

    Args:
        system: what the board is.
        runtimes: names of `runtimes.deployables`; if empty, the best that has a wheel.

    Raises:
        BoardError: there is no wheel for this board, or no index to ask.
    """
    if system.python < OLDEST_PYTHON:
        raise BoardError(
            f"Python {system.python[0]}.{system.python[1]} is too old: lenet-edge needs 3.10, which"
            " Raspberry Pi OS has since bookworm; name a newer one with --python"
        )
    if runtimes:
        return Fitting(tuple(runtimes), _fetch(system, tuple(runtimes)))
    refused = []
    for deployable in deployables():
        try:
            return Fitting((deployable.name,), _fetch(system, (deployable.name,)))
        except _NoWheel as error:
            refused.append(str(error))
    raise BoardError("; ".join(refused))


class _NoWheel(BoardError):
    """The index has no wheel of a package for a board."""


def _fetch(system: System, runtimes: tuple[str, ...]) -> tuple[Path, ...]:
    wanted = _requirements(system, runtimes)
    key = hashlib.sha256(repr((system, wanted)).encode()).hexdigest()[:12]
    folder = cache_folder("wheels") / f"{system.machine}-{key}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
        try:
            _download(system, wanted, part)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return tuple(sorted(folder.glob("*.whl")))


def _requirements(system: System, runtimes: tuple[str, ...]) -> list[str]:
    wanted = [*_of_extra(None), *(one for name in runtimes for one in _of_extra(name))]
    if system.is_32_bit_arm:  # NumPy, Pillow and Tornado have no such wheels
        wanted = [one for one in wanted if not one.startswith("numpy")]
    else:
        wanted += _of_extra("predict") + _of_extra("serve")
        # Later ones are larger, and no faster at what is done here.
        wanted.append("numpy<2.1" if system.python < (3, 13) else "numpy<2.2")
    for package in filter(None, (get_deployable(name).distribution for name in runtimes)):
        try:  # the version that the files were verified with, so that the kernels are the same
            wanted.append(f"{package}=={importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ["pip", *dict.fromkeys(wanted)]


@functools.cache
def _all_requirements() -> list[str]:
    return importlib.metadata.requires("lenet-edge") or []


def _of_extra(extra: str | None) -> list[str]:
    """Return the requirements of an extra; those of the package itself for None."""
    found = []
    for line in _all_requirements():
        requirement, _, marker = line.partition(";")
        named = re.search(r"extra == [\"'](\S+)[\"']", marker)
        if (named.group(1) if named else None) == extra and not line.startswith("lenet-edge"):
            found.append(requirement.strip())
    return found


def _download(system: System, wanted: list[str], folder: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise BoardError("fetching wheels needs pip here; install it with: python -m ensurepip")
    tags = [f"manylinux_2_{minor}_{system.machine}" for minor in range(system.glibc, 4, -1)]
    tags += [f"manylinux2014_{system.machine}", f"linux_{system.machine}"]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--only-binary=:all:", "--implementation", "cp",
        "--python-version", f"{system.python[0]}.{system.python[1]}",
        *(f"--platform={tag}" for tag in tags), "--dest", str(folder),
    ]  # fmt: skip
    # The runtimes first and alone: where one has no wheel, pip would complain of something else.
    distributions = tuple(deployable.distribution or "" for deployable in deployables())
    runtime = [one for one in wanted if one.startswith(tuple(filter(None, distributions)))]
    if runtime:
        _pip([*command, "--no-deps", *runtime], system)
    if system.is_32_bit_arm:  # what its runtime wants is NumPy: that is the system's
        wanted = [one for one in wanted if one not in runtime]
    _pip([*command, *wanted], system)


def _pip(command: list[str], system: System) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if re.search(r"NewConnectionError|Temporary failure|Max retries|ReadTimeout", done.stderr):
        raise BoardError("the package index cannot be reached from here; check the network")
    missing = re.search(r"No matching distribution found for ([\w.-]+)", done.stderr)
    if missing:
        raise _NoWheel(f"{missing.group(1)} has no wheel for {system}")
    lines = [one for one in done.stderr.splitlines() if one.startswith("ERROR")] or ["no reason"]
    raise BoardError(f"pip download failed: {lines[0].removeprefix('ERROR: ')}")
