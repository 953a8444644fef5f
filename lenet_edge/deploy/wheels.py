"""Download the wheels that a board needs. The host does this, because a board may have no network.

The extras in `pyproject.toml` list the packages of each runtime. The package index knows whether a
wheel exists for a board.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.errors import BoardError
from lenet_edge.formats import BY_NAME
from lenet_edge.runtimes import deployables, get_deployable, get_target
from lenet_edge.support.child_program import started_program
from lenet_edge.support.files import private_cache_folder, sha256_of
from lenet_edge.support.python_command import python_module
from lenet_edge.support.temporary import temporary_folder

OLDEST_PYTHON = (3, 10)
_HASHES = "sha256.json"


@dataclass(frozen=True)
class System:
    """The facts about a board that decide which wheels fit.

    Attributes:
        machine: the architecture, as ``platform.machine()`` names it.
        python: the major and minor version of Python.
        glibc: the minor version of glibc: 36 for 2.36.
    """

    machine: str
    python: tuple[int, int]
    glibc: int

    @property
    def is_32_bit_arm(self) -> bool:
        """True if NumPy must come from Debian: the index has no wheels of it for 32-bit Arm."""
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
class WheelSet:
    """The runtimes chosen for a board, and the wheels that install them."""

    runtimes: tuple[str, ...]
    wheels: tuple[Path, ...]

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each wheel, by its file name."""
        return {path.name: sha256_of(path) for path in self.wheels}

    def release(self, package: str) -> str | None:
        """Return the release of a package among the wheels; None if it is not among them."""
        for path in self.wheels:
            name, release, *_ = path.name.split("-")
            if name.replace("_", "-") == package:
                return release
        return None

    @property
    def id(self) -> str:
        """An identifier of these wheels and of a venv with them: 12 hexadecimal digits."""
        return hashlib.sha256(repr(sorted(self.hashes.items())).encode()).hexdigest()[:12]


def find_wheels(
    system: System,
    runtimes: Sequence[str] = (),
    formats: Set[str] = frozenset(BY_NAME),
    note: Callable[[str], None] = lambda line: None,
) -> WheelSet:
    """Return the wheels for a board, downloaded into the user's cache.

    Args:
        system: the facts about the board.
        runtimes: names of `runtimes.deployables`; if empty, the best that has a wheel and reads
            one of the formats.
        formats: names of the formats of the files for the board.
        note: called with a line for each download.

    Raises:
        BoardError: there is no wheel for this board, or the index cannot be reached.
    """
    if system.python < OLDEST_PYTHON:
        raise BoardError(
            f"Python {system.python[0]}.{system.python[1]} is too old: lenet-edge needs 3.10, which"
            " Raspberry Pi OS has since bookworm; name a newer one with --python"
        )
    if runtimes:
        return WheelSet(tuple(runtimes), _cached_wheels(system, tuple(runtimes), note))
    reasons = []
    for deployable in deployables():
        if not formats & set(get_target(deployable.target).formats):
            continue
        try:
            wheels = _cached_wheels(system, (deployable.name,), note)
            return WheelSet((deployable.name,), wheels)
        except _NoWheelError as error:
            reasons.append(str(error))
    reasons = reasons or [f"no runtime for boards reads {' or '.join(sorted(formats))} files"]
    raise BoardError("; ".join(reasons))


class _NoWheelError(BoardError):
    """The index has no wheel of a package for a board."""


def _cached_wheels(
    system: System, runtimes: tuple[str, ...], note: Callable[[str], None]
) -> tuple[Path, ...]:
    """Return the wheels of these runtimes from the cache; download them first if needed."""
    requirements = _requirements(system, runtimes)
    key = hashlib.sha256(repr((system, requirements)).encode()).hexdigest()[:12]
    folder = private_cache_folder("wheels") / f"{system.machine}-{key}"
    if not _is_intact(folder):
        shutil.rmtree(folder, ignore_errors=True)
        with temporary_folder(folder.parent) as scratch:
            wheels = scratch / "wheels"
            note(f"Downloading wheels of {' and '.join(runtimes)} for {system}")
            _download(system, requirements, wheels, note)
            hashes = {path.name: sha256_of(path) for path in wheels.glob("*.whl")}
            (wheels / _HASHES).write_text(json.dumps(hashes), encoding="utf-8")
            try:
                wheels.rename(folder)
            except OSError:
                if not _is_intact(folder):  # otherwise another process was faster
                    raise
    return tuple(sorted(folder.glob("*.whl")))


def _is_intact(folder: Path) -> bool:
    """Return whether a folder of the cache has the wheels that were downloaded."""
    try:
        hashes = json.loads((folder / _HASHES).read_text(encoding="utf-8"))
        return bool(hashes == {path.name: sha256_of(path) for path in folder.glob("*.whl")})
    except (OSError, ValueError):
        return False


def _requirements(system: System, runtimes: tuple[str, ...]) -> list[str]:
    """Return the requirements of the package, of these runtimes, and of `predict` and `serve`."""
    requirements = [*_of_extra(None), *(line for name in runtimes for line in _of_extra(name))]
    if system.is_32_bit_arm:  # NumPy, Pillow and Tornado have no wheels for it
        requirements = [line for line in requirements if not line.startswith("numpy")]
    else:
        requirements += _of_extra("predict") + _of_extra("serve")
        # Later versions are larger, and no faster for lenet-edge.
        requirements.append("numpy<2.1" if system.python < (3, 13) else "numpy<2.2")
    for package in filter(None, (get_deployable(name).distribution for name in runtimes)):
        try:  # the version on this machine, which has verified the files: it has the same kernels
            requirements.append(f"{package}=={importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ["pip", *dict.fromkeys(requirements)]


@functools.cache
def _all_requirements() -> list[str]:
    return importlib.metadata.requires("lenet-edge") or []


def _of_extra(extra: str | None) -> list[str]:
    """Return the requirements of an extra, or those of the package itself for None."""
    requirements = []
    for line in _all_requirements():
        requirement, _, marker = line.partition(";")
        match = re.search(r"extra == [\"'](\S+)[\"']", marker)
        if (match.group(1) if match else None) == extra and not line.startswith("lenet-edge"):
            requirements.append(requirement.strip())
    return requirements


def _download(
    system: System, requirements: list[str], folder: Path, note: Callable[[str], None]
) -> None:
    if importlib.util.find_spec("pip") is None:
        raise BoardError("downloading wheels needs pip; install it with: python -m ensurepip")
    tags = [f"manylinux_2_{minor}_{system.machine}" for minor in range(system.glibc, 4, -1)]
    tags += [f"manylinux2014_{system.machine}", f"linux_{system.machine}"]
    command = [
        *python_module("pip", "download", "--disable-pip-version-check"),
        "--only-binary=:all:", "--implementation", "cp",
        "--python-version", f"{system.python[0]}.{system.python[1]}",
        *(f"--platform={tag}" for tag in tags), "--dest", str(folder),
    ]  # fmt: skip
    # Download the runtimes first and alone: if a wheel of one is missing, pip then names it.
    distributions = tuple(deployable.distribution or "" for deployable in deployables())
    names = tuple(filter(None, distributions))
    runtimes = [line for line in requirements if line.startswith(names)]
    if runtimes:
        _run_pip([*command, "--no-deps", *runtimes], folder, system, note)
    if system.is_32_bit_arm:  # the runtime would require NumPy, which comes from Debian
        requirements = [line for line in requirements if line not in runtimes]
    _run_pip([*command, *requirements], folder, system, note)


def _run_pip(command: list[str], folder: Path, system: System, note: Callable[[str], None]) -> None:
    messages = folder.parent / "pip-messages"
    with messages.open("wb") as file, started_program(command, folder.parent, file) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if wheel := re.match(r"\s*Downloading (?:\S+/)?([^\s/-]+)-\S+\.whl \(([^)]+)\)", line):
                note(f"Downloading {wheel[1]}, {wheel[2]}")
        status = process.wait()
    stderr = messages.read_text(encoding="utf-8", errors="replace")
    if status == 0:
        return
    if re.search(r"NewConnectionError|Temporary failure|Max retries|ReadTimeout", stderr):
        raise BoardError("the package index cannot be reached; check the network of this machine")
    missing = re.search(r"No matching distribution found for ([\w.-]+)", stderr)
    if missing:
        raise _NoWheelError(f"{missing.group(1)} has no wheel for {system}")
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR")]
    lines = errors or ["it printed no reason"]
    raise BoardError(f"pip download failed: {lines[0].removeprefix('ERROR: ')}")
