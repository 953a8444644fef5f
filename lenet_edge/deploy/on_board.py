"""What `lenet-edge deploy` runs on a board, through SSH and the board's own Python.

It is sent each time and stays in memory, needs nothing but the standard library, and reads its
requests from standard input: a line of JSON, then as many bytes as the line says. It answers in
lines of JSON. Where things lie on the board, all under one folder:

    blobs/SHA256            what was sent, until it is used
    environments/ID/        a venv; it may be used once it holds `complete` (see install.sh)
    releases/ID/            an unpacked bundle, renamed into place when it is whole
    work/                   the results of the last runs
    lenet-edge              the command: it names the one release and environment that are in use

Nothing is run that is not whole, so that a deployment may be cut off anywhere and done again.
It must be readable for Python 3.7, which then hears that it is too old.
"""

from __future__ import annotations

import base64
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

_OURS = "lenet-edge "
_HOME = Path(os.path.expanduser("~"))
ROOT = _HOME / ".local" / "share" / "lenet-edge"
COMMAND = ROOT / "lenet-edge"
ON_PATH = _HOME / ".local" / "bin" / "lenet-edge"
UNIT = _HOME / ".config" / "systemd" / "user" / "lenet-edge.service"
_COMPLETE = "complete"
_PATIENCE_S = 20  # for an earlier deployment to end
_held: list[int] = []  # the lock's descriptor, for as long as this program lives


class Refused(Exception):
    """What the board cannot do, in one line."""


def hello() -> None:
    """Answer, so that a connection is known to work."""


def look() -> dict[str, Any]:
    """Return what this board is and has; nothing is changed."""
    nearest = next(folder for folder in (ROOT, *ROOT.parents) if folder.exists())
    release = _read("/etc/os-release") or ""
    codename = re.search(r"^VERSION_CODENAME=(\w+)", release, re.MULTILINE)
    name = re.search(r'^PRETTY_NAME="?([^"\n]+)', release, re.MULTILINE)
    bits = struct.calcsize("P") * 8
    machine = platform.machine()
    return {
        "model": _read("/proc/device-tree/model") or _read("/sys/firmware/devicetree/base/model"),
        "system": name.group(1) if name else platform.platform(),
        "codename": codename.group(1) if codename else None,
        # A 32-bit Python on a 64-bit kernel hears of the kernel: ask for the size of a pointer.
        "machine": "armv7l" if bits == 32 and machine == "aarch64" else machine,
        "python": list(sys.version_info[:3]),
        "glibc": platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else None,
        "home": str(_HOME),
        "writable": os.access(str(nearest), os.W_OK),
        "free_bytes": shutil.disk_usage(str(nearest)).free,
        "time_s": time.time(),
        "temperature_celsius": _temperature(),
        "throttled": _answer("vcgencmd", "get_throttled"),
        "systemd": Path("/run/systemd/system").is_dir(),
        # Debian's own; a 32-bit board gets it from nowhere else.
        "has_numpy": importlib.util.find_spec("numpy") is not None,
        "in_use": _in_use(),
        "environments": [one.parent.name for one in ROOT.glob("environments/*/" + _COMPLETE)],
    }


def begin(who: str) -> None:
    """Keep every other deployment out, for as long as this program lives.

    One of the same person's is ended: its line may have been cut without the board noticing.

    Raises:
        Refused: another one is at work.
    """
    ROOT.mkdir(parents=True, exist_ok=True)
    lock = os.open(str(ROOT / "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    for attempt in range(_PATIENCE_S * 10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            pid, _, owner = os.pread(lock, 1000, 0).decode(errors="replace").partition(" ")
            if owner != who:
                said = f"{owner or 'another'} is deploying there; wait for its end"
                raise Refused(said) from None
            if not attempt:
                with contextlib.suppress(OSError, ValueError):
                    os.kill(int(pid), signal.SIGTERM)
            time.sleep(0.1)
    else:
        raise Refused("an earlier deployment does not end there; restart the board")
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {who}".encode(), 0)
    signal.signal(signal.SIGTERM, _leave)
    _held.append(lock)
    for unfinished in ROOT.glob("*/*.part"):
        _remove(unfinished)
    shutil.rmtree(str(ROOT / "work"), ignore_errors=True)


def _leave(number: int, frame: object) -> None:
    with contextlib.suppress(OSError):
        _say({"error": "another deployment of yours has taken over"})
    raise SystemExit(1)  # on its way out, what runs is ended


def missing(
    release: str, files: dict[str, str], environment: str, wheels: dict[str, str]
) -> list[str]:
    """Return those SHA-256 whose files have to be sent: what earlier releases have is taken there.

    Args:
        release: what the files are for.
        files: the SHA-256 of each by its path in the release.
        environment: what the wheels are for.
        wheels: the SHA-256 of each by its file name.
    """
    wanted = set()
    if not _is_whole(ROOT / "releases" / release, files):
        wanted |= set(files.values())
        for path in ROOT.glob("releases/*/**/*"):
            if path.is_file() and "__pycache__" not in path.parts:
                sha256 = _sha256_of(path)
                if sha256 in wanted and not _blob(sha256).exists():
                    with path.open("rb") as content:
                        put(sha256, content, path.stat().st_size)
    if not (ROOT / "environments" / environment / _COMPLETE).exists():
        wanted |= set(wheels.values())
    for sha256 in wanted:
        path = _blob(sha256)
        if path.exists() and _sha256_of(path) != sha256:
            path.unlink()
    return sorted(one for one in wanted if not _blob(one).exists())


def put(sha256: str, content: BinaryIO, size: int) -> None:
    """Keep a file that is sent.

    Raises:
        Refused: it is not what was announced.
    """
    path = _blob(sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(sha256 + ".part")
    digest, left = hashlib.sha256(), size
    with part.open("wb") as file:
        while left:
            piece = content.read(min(left, 1 << 20))
            if not piece:
                raise EOFError
            digest.update(piece)
            file.write(piece)
            left -= len(piece)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != sha256:
        part.unlink()
        raise Refused("a file arrived damaged; deploy again")
    part.rename(path)


def unpack(release: str, files: dict[str, str], executable: list[str]) -> None:
    """Make a release of the files that were sent, by path and SHA-256."""
    folder = ROOT / "releases" / release
    if _is_whole(folder, files):
        return
    part = folder.with_name(release + ".part")
    _remove(part)
    for name, sha256 in files.items():
        path = part / name
        if Path(name).is_absolute() or ".." in path.parts:
            raise Refused(f"{name!r} is outside of the release")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(_blob(sha256)), str(path))
        if name in executable:
            path.chmod(0o755)
    os.sync()
    _remove(folder)
    part.rename(folder)


def install(release: str, environment: str, wheels: dict[str, str]) -> None:
    """Make a venv of the wheels that were sent, by file name and SHA-256, as the release does it.

    Raises:
        Refused: pip cannot install them.
    """
    folder = ROOT / "environments" / environment
    if (folder / _COMPLETE).exists():
        return
    packages = ROOT / "environments" / (environment + ".part")
    _remove(packages)
    packages.mkdir(parents=True)
    for name, sha256 in wheels.items():
        shutil.copyfile(str(_blob(sha256)), str(packages / Path(name).name))
    script = ROOT / "releases" / release / "install.sh"
    _call(["sh", str(script), str(packages), str(folder)], PYTHON3=sys.executable)
    _remove(packages)


def run(
    release: str, environment: str, arguments: list[str], report: Callable[[str], None]
) -> dict[str, Any]:
    """Run a command of lenet-edge there; its notes are progress. It ends when the caller does."""
    work = ROOT / "work"
    work.mkdir(exist_ok=True)
    command = [str(ROOT / "releases" / release / "run.sh"), *arguments]
    status, printed, last = _watch(command, report, str(work), PYTHON=str(_python(environment)))
    return {"status": status, "printed": printed, "last": last}


def fetch(name: str) -> str | None:
    """Return a file that a run has written, in base64; None if it wrote none of that name."""
    path = ROOT / "work" / Path(name).name
    return base64.b64encode(path.read_bytes()).decode() if path.exists() else None


def use(release: str, environment: str) -> dict[str, Any]:
    """Make a release the one that the command runs, and remove what is no longer needed."""
    _write(COMMAND, "\n".join([
        "#!/bin/sh",
        "# Written by lenet-edge deploy; lenet-edge deploy --uninstall takes it away.",
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
    taken = os.path.lexists(str(ON_PATH)) and not _is_ours(ON_PATH)
    if not taken:
        ON_PATH.parent.mkdir(parents=True, exist_ok=True)
        _remove(ON_PATH)
        ON_PATH.symlink_to(COMMAND)
    return {"command": str(COMMAND if taken else ON_PATH)}


def serve(arguments: list[str]) -> list[str]:
    """Have systemd run ``lenet-edge serve`` now and after each start; return its address lines.

    Raises:
        Refused: this board has no systemd, or it does not start.
    """
    if not Path("/run/systemd/system").is_dir():
        raise Refused("it does not run systemd, so --service cannot have it started")
    _write(UNIT, _unit(arguments), 0o600)
    _call(["systemctl", "--user", "daemon-reload"])
    _call(["systemctl", "--user", "enable", "lenet-edge.service"])
    _call(["systemctl", "--user", "restart", "lenet-edge.service"])
    # Without lingering it ends with the last login and does not start with the board.
    _call(["loginctl", "enable-linger"])
    for _ in range(30):
        time.sleep(1)
        said = _answer("journalctl", "--user", "-u", "lenet-edge", "-o", "cat", "-n", "20") or ""
        found = re.findall(r"Serving .*", said)
        if found:
            return [found[-1]]
    raise Refused("serve did not start; on the board: journalctl --user -u lenet-edge")


def _unit(arguments: list[str]) -> str:
    escaped = (one.replace("%", "%%").replace("$", "$$") for one in (str(COMMAND), *arguments))
    quoted = " ".join(f'"{one}"' for one in escaped)
    return f"""\
# Written by lenet-edge deploy; lenet-edge deploy --uninstall takes it away.
[Unit]
Description=Handwritten digits, read by lenet-edge
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
    """Remove all that was ever deployed, and return what was removed."""
    removed = []
    if UNIT.exists():
        _answer("systemctl", "--user", "disable", "--now", "lenet-edge.service")
        removed.append(UNIT)
    if _is_ours(ON_PATH):
        removed.append(ON_PATH)
    if ROOT.exists():
        removed.append(ROOT)
    for path in removed:
        _remove_wholly(path)
    return [str(path) for path in removed]


def give_up() -> None:
    """Remove what was sent for a deployment that cannot come to its end."""
    _remove(ROOT / "blobs")
    if not COMMAND.exists():
        _remove_wholly(ROOT)


def _in_use() -> dict[str, str] | None:
    said = _read(str(COMMAND)) or ""
    found = re.search(r"^# release (\S+) environment (\S+)$", said, re.MULTILINE)
    return {"release": found.group(1), "environment": found.group(2)} if found else None


def _is_ours(link: Path) -> bool:
    return link.is_symlink() and os.readlink(str(link)) == str(COMMAND)


def _is_whole(folder: Path, files: dict[str, str]) -> bool:
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
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
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


def _remove_wholly(path: Path) -> None:
    """Remove it, and the folders that only it was in."""
    _remove(path)
    for folder in path.parents:
        if folder == _HOME or any(folder.iterdir()):
            break
        folder.rmdir()


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _temperature() -> float | None:
    zones = [_read(str(one)) for one in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    return max((int(zone) / 1000 for zone in zones if zone), default=None)


def _answer(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def _call(command: list[str], **environment: str) -> None:
    lines: list[str] = []
    status, printed, _ = _watch(command, lines.append, None, **environment)
    if status:
        lines = [*printed.strip().splitlines(), *lines] or ["it said nothing"]
        errors = [line for line in lines if line.startswith("ERROR")]
        if any("No space left" in line for line in lines):
            raise OSError(errno.ENOSPC, "No space left on device")
        what = " ".join([Path(command[0]).name, *command[1:3]])
        raise Refused(f"{what} failed: {(errors or lines)[-1]}")


def _watch(
    command: list[str], report: Callable[[str], None], folder: str | None, **environment: str
) -> tuple[int, str, str]:
    """Run a program, which ends with its caller; return its status, output and last note.

    `report` gets each line of its standard error.
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
            readable, _, _ = select.select([0, *open_pipes], [], [])
            if 0 in readable:  # nothing is asked before this has been answered: it is the end
                raise EOFError
            for pipe in readable:
                piece = os.read(pipe, 65536)
                if not piece:
                    open_pipes.discard(pipe)
                elif pipe == process.stdout.fileno():
                    out.append(piece)
                else:
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        last = line.decode(errors="replace").strip() or last
                        report(last)
        status = process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return status, b"".join(out).decode(errors="replace"), last


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(_OURS + json.dumps(answer) + "\n")
    sys.stdout.flush()


def _report(line: str) -> None:
    _say({"progress": line})


def main() -> None:
    """Answer requests until the caller closes its end."""
    questions = (hello, look, begin, missing, put, unpack, install, run, fetch, use, serve,
                 uninstall, give_up)  # fmt: skip
    known = {one.__name__: one for one in questions}
    requests = sys.stdin.buffer
    for line in iter(requests.readline, b""):
        request = json.loads(line.decode())
        arguments = request["with"]
        if request["do"] == "put":
            arguments.update(content=requests, size=request["size"])
        elif request["do"] == "run":
            arguments.update(report=_report)
        try:
            _say({"result": known[request["do"]](**arguments)})
        except Refused as error:
            _say({"error": str(error)})
        except OSError as error:
            if error.errno == errno.ENOSPC:
                give_up()
            where = f" ({error.filename})" if error.filename else ""
            _say({"error": f"{error.strerror or error}{where}"})
            return
        except EOFError:
            return


main()
