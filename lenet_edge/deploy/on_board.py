"""The program that `lenet-edge deploy` runs on a board, through SSH and the board's Python.

The host sends this file with each deployment; it is never written to the board's disk. It uses
only the standard library. The first line of standard input is a random marker. Each request is a
line of JSON, followed by as many bytes as the line states. Each reply on standard output is the
marker and a line of JSON, so that output of login scripts cannot be mistaken for it. A reply that
announces content is followed by its bytes. All files on the board are in one folder:

    blobs/SHA256            files that were sent, until they are used
    environments/ID/        a venv, complete once it contains a file `complete` (see install.sh)
    releases/ID/            an unpacked bundle, renamed into place when it is complete
    work/                   the results of the last runs
    lenet-edge              the command: it names the release and the environment in use

Only complete releases and environments are run, so an interrupted deployment can be repeated.
Python 3.7 must be able to parse this file, so that it can report its version as too old.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

_marker = [""]
_HOME = Path(os.path.expanduser("~"))
ROOT = _HOME / ".local" / "share" / "lenet-edge"
COMMAND = ROOT / "lenet-edge"
ON_PATH = _HOME / ".local" / "bin" / "lenet-edge"
UNIT = _HOME / ".config" / "systemd" / "user" / "lenet-edge.service"
_COMPLETE = "complete"
_LOCK_TIMEOUT_S = 20
_lock_descriptors: list[int] = []  # kept open until this program ends


class DeploymentError(Exception):
    """A step that the board cannot do; the message is one line."""


def ping() -> None:
    """Do nothing; the reply shows that the connection works."""


def describe_board() -> dict[str, Any]:
    """Return the facts about this board that decide the deployment; change nothing."""
    nearest = next(folder for folder in (ROOT, *ROOT.parents) if folder.exists())
    release = _read_text("/etc/os-release") or ""
    codename = re.search(r"^VERSION_CODENAME=(\w+)", release, re.MULTILINE)
    name = re.search(r'^PRETTY_NAME="?([^"\n]+)', release, re.MULTILINE)
    bits = struct.calcsize("P") * 8
    machine = platform.machine()
    return {
        "model": _read_text("/proc/device-tree/model")
        or _read_text("/sys/firmware/devicetree/base/model"),
        "system": name.group(1) if name else platform.platform(),
        "codename": codename.group(1) if codename else None,
        # On a 64-bit kernel, platform.machine() names the kernel even in a 32-bit Python.
        "machine": "armv7l" if bits == 32 and machine == "aarch64" else machine,
        "python": list(sys.version_info[:3]),
        "glibc": platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else None,
        "home": str(_HOME),
        "writable": os.access(str(nearest), os.W_OK),
        "free_bytes": shutil.disk_usage(str(nearest)).free,
        "time_s": time.time(),
        "temperature_celsius": _temperature(),
        "throttled": _output_of("vcgencmd", "get_throttled"),
        "systemd": _has_user_services(),
        # NumPy from Debian: the package index has no wheel for a 32-bit board.
        "has_numpy": importlib.util.find_spec("numpy") is not None,
        "in_use": _read_in_use(),
        "environments": [path.parent.name for path in ROOT.glob("environments/*/" + _COMPLETE)],
    }


def lock_board(user: str) -> None:
    """Exclude other deployments until this program ends.

    An earlier deployment of the same user is terminated: its connection may have been cut without
    the board noticing.

    Args:
        user: the name of the user and the host that deploy.

    Raises:
        DeploymentError: another user is deploying.
    """
    ROOT.mkdir(parents=True, exist_ok=True)
    lock = os.open(str(ROOT / "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    for attempt in range(_LOCK_TIMEOUT_S * 10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            pid, _, owner = os.pread(lock, 1000, 0).decode(errors="replace").partition(" ")
            if owner != user:
                raise DeploymentError(
                    f"{owner or 'another user'} is deploying to it; wait until that ends"
                ) from None
            if not attempt:
                with contextlib.suppress(OSError, ValueError):
                    os.kill(int(pid), signal.SIGTERM)
            time.sleep(0.1)
    else:
        raise DeploymentError("an earlier deployment does not end; restart the board")
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {user}".encode(), 0)
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    _lock_descriptors.append(lock)
    for unfinished in ROOT.glob("*/*.part"):
        _remove(unfinished)
    shutil.rmtree(str(ROOT / "work"), ignore_errors=True)


def _exit_on_sigterm(number: int, frame: object) -> None:
    with contextlib.suppress(OSError):
        _reply({"error": "another deployment of yours has replaced this one"})
    raise SystemExit(1)  # _run_watched then kills the running program


def list_missing(
    release: str, files: dict[str, str], environment: str, wheels: dict[str, str]
) -> list[str]:
    """Return the SHA-256 of each file that the host must send.

    Files of earlier releases are reused and need not be sent.

    Args:
        release: the identifier of the release.
        files: the SHA-256 of each file of the release, by path.
        environment: the identifier of the environment.
        wheels: the SHA-256 of each wheel of the environment, by file name.
    """
    needed = set()
    if not _is_complete(ROOT / "releases" / release, files):
        needed |= set(files.values())
        for path in ROOT.glob("releases/*/**/*"):
            if path.is_file() and "__pycache__" not in path.parts:
                sha256 = _sha256_of(path)
                if sha256 in needed and not _blob(sha256).exists():
                    with path.open("rb") as content:
                        store_file(sha256, content, path.stat().st_size)
    if not (ROOT / "environments" / environment / _COMPLETE).exists():
        needed |= set(wheels.values())
    for sha256 in needed:
        path = _blob(sha256)
        if path.exists() and _sha256_of(path) != sha256:
            path.unlink()
    return sorted(sha256 for sha256 in needed if not _blob(sha256).exists())


def store_file(sha256: str, content: BinaryIO, size: int) -> None:
    """Read `size` bytes of content and store them as a blob.

    Raises:
        DeploymentError: the content has another SHA-256.
    """
    path = _blob(sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(sha256 + ".part")
    digest, remaining = hashlib.sha256(), size
    with part.open("wb") as file:
        while remaining:
            chunk = content.read(min(remaining, 1 << 20))
            if not chunk:
                raise EOFError
            digest.update(chunk)
            file.write(chunk)
            remaining -= len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != sha256:
        part.unlink()
        raise DeploymentError("a file was damaged in transfer; deploy again")
    part.rename(path)


def unpack_release(release: str, files: dict[str, str], executable: list[str]) -> None:
    """Create a release from stored files.

    Args:
        release: the identifier of the release.
        files: the SHA-256 of each file, by path in the release.
        executable: the paths of the files that get execute permission.

    Raises:
        DeploymentError: a path leads out of the release.
    """
    folder = ROOT / "releases" / release
    if _is_complete(folder, files):
        return
    part = folder.with_name(release + ".part")
    _remove(part)
    for name, sha256 in files.items():
        path = part / name
        if Path(name).is_absolute() or ".." in path.parts:
            raise DeploymentError(f"{name!r} is outside of the release")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(_blob(sha256)), str(path))
        if name in executable:
            path.chmod(0o755)
    os.sync()
    _remove(folder)
    part.rename(folder)


def create_environment(
    release: str, environment: str, wheels: dict[str, str], report: Callable[[str], None]
) -> None:
    """Create a venv from stored wheels with the install.sh of the release.

    Args:
        release: the identifier of the release.
        environment: the identifier of the environment.
        wheels: the SHA-256 of each wheel, by file name.
        report: called with the name of each installed package.

    Raises:
        DeploymentError: pip cannot install the wheels.
    """
    folder = ROOT / "environments" / environment
    if (folder / _COMPLETE).exists():
        return
    installed: set[str] = set()

    def report_packages() -> None:
        for path in sorted(folder.glob("lib/python*/site-packages/*.dist-info")):
            if path.name not in installed:
                installed.add(path.name)
                report(path.name.split("-")[0])

    packages = ROOT / "environments" / (environment + ".part")
    _remove(packages)
    packages.mkdir(parents=True)
    for name, sha256 in wheels.items():
        shutil.copyfile(str(_blob(sha256)), str(packages / Path(name).name))
    script = ROOT / "releases" / release / "install.sh"
    command = ["sh", str(script), str(packages), str(folder)]
    _run_checked(command, report_packages, PYTHON3=sys.executable)
    report_packages()
    _remove(packages)


def run_command(
    release: str, environment: str, arguments: list[str], report: Callable[[str], None]
) -> dict[str, Any]:
    """Run a lenet-edge command of a release, and kill it if the host disconnects.

    Args:
        release: the identifier of the release.
        environment: the identifier of the environment.
        arguments: the command and its arguments.
        report: called with each line of standard error.

    Returns:
        The exit status and the last line of standard error.
    """
    work = ROOT / "work"
    work.mkdir(exist_ok=True)
    command = [str(ROOT / "releases" / release / "run.sh"), *arguments]
    python = str(_python(environment))
    status, _, last = _run_watched(command, report, str(work), PYTHON=python)
    return {"status": status, "last": last}


def fetch_result(name: str) -> bytes | None:
    """Return a file that a command wrote, or None if it does not exist."""
    path = ROOT / "work" / Path(name).name
    return path.read_bytes() if path.exists() else None


def activate(release: str, environment: str) -> dict[str, Any]:
    """Make the command run this release, and remove all other releases and environments."""
    _write(COMMAND, "\n".join([
        "#!/bin/sh",
        "# Written by lenet-edge deploy; lenet-edge deploy --uninstall removes it.",
        f"# release {release} environment {environment}",
        "PYTHON={} exec {} \"$@\"".format(
            shlex.quote(str(_python(environment))),
            shlex.quote(str(ROOT / "releases" / release / "run.sh"))),
        "",
    ]), 0o755)  # fmt: skip
    for kind, kept in (("releases", release), ("environments", environment), ("blobs", "")):
        for old in ROOT.glob(kind + "/*"):
            if old.name != kept:
                _remove(old)
    is_foreign = os.path.lexists(str(ON_PATH)) and not _is_link_to_command(ON_PATH)
    if not is_foreign:
        ON_PATH.parent.mkdir(parents=True, exist_ok=True)
        _remove(ON_PATH)
        ON_PATH.symlink_to(COMMAND)
    return {"command": str(COMMAND if is_foreign else ON_PATH)}


def start_service(arguments: list[str]) -> list[str]:
    """Make systemd run ``lenet-edge serve`` now and after each boot.

    Returns:
        The line that `serve` prints with its address.

    Raises:
        DeploymentError: the board does not run systemd, or `serve` does not start.
    """
    if not _has_user_services():
        raise DeploymentError("--service needs systemd with services of users")
    _write(UNIT, _unit_text(arguments), 0o600)
    _run_checked(["systemctl", "--user", "daemon-reload"])
    _run_checked(["systemctl", "--user", "enable", "lenet-edge.service"])
    _run_checked(["systemctl", "--user", "restart", "lenet-edge.service"])
    # Without lingering, the service stops at the last logout and does not start at boot.
    _run_checked(["loginctl", "enable-linger"])
    journal = ("journalctl", "--user", "-u", "lenet-edge", "-o", "cat", "-n", "20")
    for _ in range(30):
        time.sleep(1)
        lines = re.findall(r"Serving .*", _output_of(*journal) or "")
        if lines:
            return [lines[-1]]
    raise DeploymentError("serve did not start; on the board: journalctl --user -u lenet-edge")


def _has_user_services() -> bool:
    """Return True if systemd runs services of this user."""
    if not Path("/run/systemd/system").is_dir():
        return False
    return _output_of("systemctl", "--user", "show-environment") is not None


def _unit_text(arguments: list[str]) -> str:
    """Return the systemd unit that runs the command with these arguments."""
    words = (word.replace("%", "%%").replace("$", "$$") for word in (str(COMMAND), *arguments))
    quoted = " ".join(f'"{word}"' for word in words)
    return f"""\
# Written by lenet-edge deploy; lenet-edge deploy --uninstall removes it.
[Unit]
Description=Handwritten digit recognition by lenet-edge
After=network-online.target
[Service]
ExecStart={quoted}
Restart=on-failure
RestartSec=5
NoNewPrivileges=yes
[Install]
WantedBy=default.target
"""


def uninstall() -> list[str]:
    """Remove all files of all deployments, and return the removed paths."""
    removed = []
    if UNIT.exists():
        _output_of("systemctl", "--user", "disable", "--now", "lenet-edge.service")
        removed.append(UNIT)
    if _is_link_to_command(ON_PATH):
        removed.append(ON_PATH)
    if ROOT.exists():
        removed.append(ROOT)
    for path in removed:
        _remove_with_empty_parents(path)
    return [str(path) for path in removed]


def discard_blobs() -> None:
    """Remove the files that were sent for a deployment that cannot be completed."""
    _remove(ROOT / "blobs")
    if not COMMAND.exists():
        _remove_with_empty_parents(ROOT)


def _read_in_use() -> dict[str, str] | None:
    """Return the release and the environment that the command names, or None without a command."""
    script = _read_text(str(COMMAND)) or ""
    match = re.search(r"^# release (\S+) environment (\S+)$", script, re.MULTILINE)
    return {"release": match.group(1), "environment": match.group(2)} if match else None


def _is_link_to_command(path: Path) -> bool:
    return path.is_symlink() and os.readlink(str(path)) == str(COMMAND)


def _is_complete(folder: Path, files: dict[str, str]) -> bool:
    return all(
        (folder / name).exists() and _sha256_of(folder / name) == sha256
        for name, sha256 in files.items()
    )


def _blob(sha256: str) -> Path:
    return ROOT / "blobs" / sha256


def _python(environment: str) -> Path:
    return ROOT / "environments" / environment / "bin" / "python"


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.chmod(mode)
    part.rename(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(str(path))
    elif os.path.lexists(str(path)):
        path.unlink()


def _remove_with_empty_parents(path: Path) -> None:
    """Remove a path, and its parent folders that are empty afterwards."""
    _remove(path)
    for folder in path.parents:
        if folder == _HOME or any(folder.iterdir()):
            break
        folder.rmdir()


def _read_text(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _temperature() -> float | None:
    paths = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    zones = [_read_text(str(path)) for path in paths]
    return max((int(zone) / 1000 for zone in zones if zone), default=None)


def _output_of(*command: str) -> str | None:
    """Return the standard output of a command, or None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def _run_checked(
    command: list[str], each_second: Callable[[], None] | None = None, **environment: str
) -> None:
    """Run a program; raise DeploymentError with its last line if it fails."""
    lines: list[str] = []
    status, printed, _ = _run_watched(command, lines.append, None, each_second, **environment)
    if status:
        lines = [*printed.strip().splitlines(), *lines] or ["it printed nothing"]
        errors = [line for line in lines if line.startswith("ERROR")]
        if any("No space left" in line for line in lines):
            raise OSError(errno.ENOSPC, "No space left on device")
        shown_command = " ".join([Path(command[0]).name, *command[1:3]])
        raise DeploymentError(f"{shown_command} failed: {(errors or lines)[-1]}")


def _run_watched(
    command: list[str],
    report: Callable[[str], None],
    folder: str | None,
    each_second: Callable[[], None] | None = None,
    **environment: str,
) -> tuple[int, str, str]:
    """Run a program, and kill it and its children if the host disconnects.

    Args:
        command: the program and its arguments.
        report: called with each line of standard error.
        folder: the working folder.
        each_second: called after each piece of output, and at least each second. Without it the
            process sleeps between them, because the program may measure latencies.
        environment: additional environment variables.

    Returns:
        The exit status, the standard output and the last line of standard error.
    """
    process = subprocess.Popen(
        command, cwd=folder, env=dict(os.environ, **environment), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    out, last, rest = [], "", b""
    open_pipes = {process.stdout.fileno(), process.stderr.fileno()}
    try:
        while open_pipes:
            readable, _, _ = select.select([0, *open_pipes], [], [], 1 if each_second else None)
            if each_second:
                each_second()
            if 0 in readable:  # the host sends no request meanwhile, so it has disconnected
                raise EOFError
            for pipe in readable:
                chunk = os.read(pipe, 65536)
                if not chunk:
                    open_pipes.discard(pipe)
                elif pipe == process.stdout.fileno():
                    out.append(chunk)
                else:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        last = line.decode(errors="replace").strip() or last
                        report(last)
        status = process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return status, b"".join(out).decode(errors="replace"), last


def _reply(message: dict[str, Any], content: bytes = b"") -> None:
    # A new line first: a login script may have printed text without one.
    line = f"\n{_marker[0]} {json.dumps(message)}\n"
    sys.stdout.buffer.write(line.encode() + content)
    sys.stdout.buffer.flush()


def _report_progress(line: str) -> None:
    _reply({"progress": line})


def main() -> None:
    """Serve requests until the host closes the connection."""
    functions = (ping, describe_board, lock_board, list_missing, store_file, unpack_release,
                 create_environment, run_command, fetch_result, activate, start_service,
                 uninstall, discard_blobs)  # fmt: skip
    by_name = {function.__name__: function for function in functions}
    requests = sys.stdin.buffer
    _marker[0] = requests.readline().decode().strip()
    for line in iter(requests.readline, b""):
        request = json.loads(line.decode())
        arguments = request["arguments"]
        if request["function"] == "store_file":
            arguments.update(content=requests, size=request["size"])
        elif request["function"] in ("create_environment", "run_command"):
            arguments.update(report=_report_progress)
        try:
            result = by_name[request["function"]](**arguments)
            if isinstance(result, bytes):
                _reply({"content": len(result)}, result)
            else:
                _reply({"result": result})
        except DeploymentError as error:
            _reply({"error": str(error)})
        except OSError as error:
            if error.errno == errno.ENOSPC:
                discard_blobs()
            where = f" ({error.filename})" if error.filename else ""
            _reply({"error": f"{error.strerror or error}{where}"})
            return
        except EOFError:
            return


main()
