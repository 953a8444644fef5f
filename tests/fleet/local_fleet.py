"""A fleet whose boards are processes of this machine, where a script replaces ssh."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
# Every process is on one machine, so that no tunnels are needed.
_SSH = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift 2\nexec sh -c "$1"\n'


class LocalFleet:
    """The folder of an inventory, and the commands in it."""

    def __init__(self, folder: Path, names: Iterable[str], ssh: str = _SSH) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "bin").mkdir()
        (folder / "bin/ssh").write_text(ssh)
        (folder / "bin/ssh").chmod(0o755)
        (folder / "fleet.toml").write_text(
            "".join(
                f'[boards.{name}]\nssh = "{name}"\npython = "{sys.executable}"\n' for name in names
            )
        )
        self.environment = {
            **os.environ,
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    @property
    def scheduler(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    @property
    def certificates(self) -> Path:
        return self.folder / f"cache/lenet-edge/fleet/{self.port}"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lenet_edge", *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def fleet(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("fleet", command, "--port", str(self.port), *arguments)

    def processes(self) -> dict[int, str]:
        """The processes of the scheduler and of the workers: their command lines."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                command = (path / "cmdline").read_bytes()
                environment = (path / "environ").read_bytes()
            except OSError:
                continue
            if b"sys.stdin.buffer.read" in command and bytes(self.folder) in environment:
                found[int(path.name)] = (command + environment).decode(errors="replace")
        return found

    def listening(self) -> set[str]:
        """The addresses on which these processes listen, as IP:PORT."""
        inodes = set()
        for pid in self.processes():
            for link in Path(f"/proc/{pid}/fd").iterdir():
                if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link)):
                    inodes.add(match[1])
        addresses = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in inodes:  # in the state LISTEN
                    host, port = fields[1].split(":")
                    ip = ".".join(str(byte) for byte in reversed(bytes.fromhex(host)))
                    addresses.add(f"{ip}:{int(port, 16)}")
        return addresses
