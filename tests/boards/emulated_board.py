"""An emulated Raspberry Pi to log in to: its own userland, its own sshd, nothing of it left behind.

QEMU's user mode runs its programs, so that only what they answer means anything, never how fast.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.boards.faces import FACES
from tests.boards.userland import ENTER, Userland, build
from tests.fleet.cluster import free_port

_PI = 1000
_PATIENCE_S = 60
_VCGENCMD = """#!/bin/sh
case "$1" in
  get_throttled) echo "throttled={throttled}" ;;
  measure_temp) echo "temp=48.7'C" ;;
  measure_clock) echo "frequency(0)=1500398464" ;;
  *) echo 'error=1 error_msg="Command not registered"' ;;
esac
"""


@dataclass(frozen=True)
class Board:
    """A running board. `ssh_config` makes ``ssh -F ssh_config pi`` work; `root` is its / from here.

    The same by hand: ``ssh -p port -i key -o UserKnownHostsFile=known_hosts pi@127.0.0.1``.
    """

    port: int
    key: Path
    known_hosts: Path
    ssh_config: Path
    root: Path

    def ssh(self, *command: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command there, as the user pi."""
        return subprocess.run(
            ["ssh", "-F", str(self.ssh_config), "pi", shlex.join(command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )


@contextmanager
def start(
    userland: Userland,
    face: str = "pi4",
    *,
    home: str = "size=2g",
    clock: str | None = None,
    throttled: str | None = None,
    port: int | None = None,
) -> Iterator[Board]:
    """Start a fresh board.

    Args:
        userland: what is installed on it.
        face: a key of FACES.
        home: how tmpfs is mounted at /home/pi: "size=8m" for a small one, "ro" for one that
            cannot be written.
        clock: how far the clock is off, such as "-10y" or "+1d", in libfaketime's words; on a
            64-bit board, for what is not linked statically.
        throttled: what vcgencmd says, such as "0x50005"; None for a board without vcgencmd.
        port: where sshd listens, on 127.0.0.1; None for a free one.
    """
    base = build(userland)
    with tempfile.TemporaryDirectory(prefix="board-") as name:
        folder = Path(name)
        layer, root = folder / "layer", folder / "root"
        root.mkdir()
        port = port or free_port()
        cpu = FACES[face].cpu if userland.architecture == "arm64" else "cortex-a15"
        FACES[face].write(layer)
        said = {"QEMU_CPU": cpu, "LANG": "C.UTF-8"}
        if clock:
            said |= {"LD_PRELOAD": userland.libfaketime, "FAKETIME": clock}
        if throttled:
            _write(layer / "usr/bin/vcgencmd", _VCGENCMD.format(throttled=throttled), 0o755)
        _keys_and_settings(folder, layer, port, said)
        log = folder / "sshd.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [ENTER, "/usr/sbin/sshd", "-D", "-e"],
                env={
                    **os.environ, "BASE": str(base), "LAYER": str(layer), "ROOT": str(root),
                    "HOME_OPTIONS": home, "QEMU_CPU": cpu,
                },
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            )  # fmt: skip
        try:
            _wait_for(process, port, log)
            yield Board(
                port=port,
                key=folder / "key",
                known_hosts=folder / "known_hosts",
                ssh_config=folder / "ssh_config",
                root=Path(f"/proc/{_first(process)}/root"),
            )
        finally:
            # With the board's first process go all others and the mounts; unshare waits for that.
            if first := _first(process):
                os.kill(first, signal.SIGKILL)
            else:
                process.kill()
            process.wait()


def _first(process: subprocess.Popen[bytes]) -> int | None:
    """Return this machine's number of the board's first process, unshare's only child."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _keys_and_settings(folder: Path, layer: Path, port: int, said: dict[str, str]) -> None:
    """Write what sshd and its client need; `said` is the environment of whoever logs in."""
    # Keys are made here: an RSA key takes an emulated processor seconds.
    for key in (folder / "key", folder / "host_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True
        )
    host_key = (folder / "host_key.pub").read_text()
    _write(layer / "etc/ssh/host_key", (folder / "host_key").read_text())
    _write(layer / "etc/ssh/pi_keys", (folder / "key.pub").read_text())
    _write(layer / "etc/hosts", "127.0.0.1 localhost raspberrypi\n")
    _write(layer / "etc/hostname", "raspberrypi\n")
    # sshd starts every login with an environment of its own.
    _write(
        layer / "etc/ssh/sshd_config",
        f"ListenAddress 127.0.0.1:{port}\n"
        "HostKey /etc/ssh/host_key\n"
        "AuthorizedKeysFile /etc/ssh/pi_keys\n"
        "PasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
        "UsePAM no\n"
        "UseDNS no\n"
        "Subsystem sftp /usr/lib/openssh/sftp-server\n"
        f"SetEnv {' '.join(f'{name}={value}' for name, value in said.items())}\n",
    )
    _write(folder / "known_hosts", f"[127.0.0.1]:{port} {host_key}")
    _write(
        folder / "ssh_config",
        "Host pi\n"
        "  HostName 127.0.0.1\n"
        f"  Port {port}\n"
        "  User pi\n"
        f"  IdentityFile {folder / 'key'}\n"
        "  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder / 'known_hosts'}\n"
        "  StrictHostKeyChecking yes\n",
    )


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the board did not start: {log.read_text(errors='replace')}")
