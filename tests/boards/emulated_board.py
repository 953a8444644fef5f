"""An emulated Raspberry Pi with its own userland and sshd, which is removed after the test.

QEMU user mode runs its programs. Their results are meaningful, their speed is not.
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

from tests.boards.pi_models import PI_MODELS
from tests.boards.userland import ENTER, Userland, build
from tests.ports import free_port

_START_TIMEOUT_S = 60
_VCGENCMD = """#!/bin/sh
case "$1" in
  get_throttled) echo "throttled={throttled}" ;;
  measure_temp) echo "temp=48.7'C" ;;
  measure_clock) echo "frequency(0)=1500398464" ;;
  *) echo 'error=1 error_msg="Command not registered"' ;;
esac
"""


@dataclass(frozen=True)
class EmulatedBoard:
    """A running board.

    `root` is the board's root folder as this machine sees it. To log in, run
    ``ssh -F ssh_config pi``, or without `ssh_config`
    ``ssh -p port -i key -o UserKnownHostsFile=known_hosts pi@127.0.0.1``.
    """

    port: int
    key: Path
    known_hosts: Path
    ssh_config: Path
    root: Path

    def ssh(self, *command: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command on the board as the user pi."""
        return subprocess.run(
            ["ssh", "-F", str(self.ssh_config), "pi", shlex.join(command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )


@contextmanager
def start_board(
    userland: Userland,
    model: str = "pi4",
    *,
    home: str = "size=2g",
    clock: str | None = None,
    throttled: str | None = None,
    port: int | None = None,
) -> Iterator[EmulatedBoard]:
    """Start a new board and yield it; stop it after the block.

    Args:
        userland: the installed system.
        model: a key of PI_MODELS.
        home: mount options of the tmpfs at /home/pi, such as "size=8m" or "ro".
        clock: offset of the clock in the syntax of libfaketime, such as "-10y" or "+1d". It works
            on 64-bit boards, for programs that are not statically linked.
        throttled: output of vcgencmd get_throttled, such as "0x50005"; None for a board without
            vcgencmd.
        port: port of sshd on 127.0.0.1; None for a free port.
    """
    base = build(userland)
    with tempfile.TemporaryDirectory(prefix="board-") as name:
        folder = Path(name)
        layer, root = folder / "layer", folder / "root"
        root.mkdir()
        port = port or free_port()
        cpu = PI_MODELS[model].cpu if userland.architecture == "arm64" else "cortex-a15"
        PI_MODELS[model].write(layer)
        login_environment = {"QEMU_CPU": cpu, "LANG": "C.UTF-8"}
        if clock:
            login_environment |= {"LD_PRELOAD": userland.libfaketime, "FAKETIME": clock}
        if throttled:
            _write(layer / "usr/bin/vcgencmd", _VCGENCMD.format(throttled=throttled), 0o755)
        _write_ssh_files(folder, layer, port, login_environment)
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
            _wait_for_sshd(process, port, log)
            yield EmulatedBoard(
                port=port,
                key=folder / "key",
                known_hosts=folder / "known_hosts",
                ssh_config=folder / "ssh_config",
                root=Path(f"/proc/{_init_pid(process)}/root"),
            )
        finally:
            # Killing the first process of the board also ends all its other processes and its
            # mounts, and unshare waits for them.
            if pid := _init_pid(process):
                os.kill(pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()


def _init_pid(process: subprocess.Popen[bytes]) -> int | None:
    """Return the PID of the board's first process on this machine: the only child of unshare."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _write_ssh_files(
    folder: Path, layer: Path, port: int, login_environment: dict[str, str]
) -> None:
    """Write the keys and the configuration of sshd and of its client."""
    # This machine creates the keys: on the emulated processor an RSA key takes seconds.
    for key in (folder / "key", folder / "host_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True
        )
    host_key = (folder / "host_key.pub").read_text()
    _write(layer / "etc/ssh/host_key", (folder / "host_key").read_text())
    _write(layer / "etc/ssh/pi_keys", (folder / "key.pub").read_text())
    _write(layer / "etc/hosts", "127.0.0.1 localhost raspberrypi\n")
    _write(layer / "etc/hostname", "raspberrypi\n")
    # sshd does not pass its own environment on to logins, so SetEnv sets it.
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
        f"SetEnv {' '.join(f'{name}={value}' for name, value in login_environment.items())}\n",
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


def _wait_for_sshd(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the board did not start: {log.read_text(errors='replace')}")
