"""`lenet-edge fleet` over a real OpenSSH to boards in separate networks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.ports import free_port

SSHD = "/usr/sbin/sshd"
EXPORTED = Path(__file__).parents[2] / "exported"
Run = Callable[..., subprocess.CompletedProcess[str]]


def missing() -> str | None:
    if os.geteuid() != 0:
        return "networks for the boards take root"
    if reason := needs.missing(SSHD, "ssh", "ssh-keygen", "unshare", "nsenter", "ip"):
        return reason
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        return "this container may not make networks"
    return None


@pytest.fixture
def networks() -> Iterator[dict[str, int]]:
    """Two boards, each in a network with a loopback address only; their process ids."""
    if reason := missing():
        needs.leave_out(reason)
    processes = {}
    try:
        for name in ("a", "b"):
            processes[name] = process = subprocess.Popen(
                ["unshare", "-n", "sh", "-c", "ip link set lo up && echo ready && exec sleep 600"],
                stdout=subprocess.PIPE,
            )
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
        yield {name: process.pid for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()


@pytest.fixture
def desk(networks: dict[str, int], tmp_path: Path) -> Run:
    """Return a function that runs lenet-edge; its `ssh` and inventory know the boards."""
    for key in ("user", "host"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / key)]
        subprocess.run(command, check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    (tmp_path / "sshd_config").write_text(
        f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\nStrictModes no\n"
        "PermitRootLogin prohibit-password\nPidFile none\nUsePAM no\n"
    )
    known = (tmp_path / "host.pub").read_text()
    (tmp_path / "known_hosts").write_text("".join(f"{name} {known}" for name in "abc"))
    config = [f"IdentityFile {tmp_path}/user", f"UserKnownHostsFile {tmp_path}/known_hosts"]
    for name, process in networks.items():
        # Each connection starts a server inside the board's network.
        server = f"nsenter -t {process} -n {SSHD} -i -e -f {tmp_path}/sshd_config"
        config += [f"Host {name}", "  User root", f"  ProxyCommand {server} 2>/dev/null"]
    config += ["Host c", "  ProxyCommand false"]
    (tmp_path / "ssh_config").write_text("\n".join(config) + "\n")
    (tmp_path / "bin").mkdir()
    real = shutil.which("ssh")
    (tmp_path / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {real} -F {tmp_path}/ssh_config "$@"\n')
    (tmp_path / "bin" / "ssh").chmod(0o755)
    (tmp_path / "fleet.toml").write_text(
        "".join(
            f'[boards.board-{name}]\nssh = "{name}"\ntags = ["{tag}"]\n'
            f'python = "{sys.executable}"\n'
            for name, tag in (("a", "here"), ("b", "here"), ("c", "gone"))
        )
    )
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lenet_edge", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return run


@pytest.mark.slow
def test_boards_are_started_used_and_stopped(desk: Run, tmp_path: Path) -> None:
    port = ("--port", str(free_port()))
    scheduler = f"tls://127.0.0.1:{port[1]}"
    try:
        started = desk("fleet", "up", *port)
        assert "board-a: joined" in started.stderr, started.stderr
        assert "board-b: joined" in started.stderr
        assert started.returncode == 3  # board c is missing
        assert started.stdout.startswith(f"2 of 3 boards are at {scheduler}")
        assert "board-c: " in started.stderr
        again = desk("fleet", "up", *port, "here")
        assert (again.returncode, again.stderr) == (0, "")
        shown = desk("fleet", "status", *port, "--json", "-")
        assert shown.returncode == 3
        assert {board["name"]: board["state"] for board in json.loads(shown.stdout)} == {
            "board-a": "idle", "board-b": "idle", "board-c": "missing",
        }  # fmt: skip
        verified = desk("verify", str(EXPORTED / "lenet_int8.tflite"), "--target", "litert",
                      "--scheduler", scheduler, "--json", "-")  # fmt: skip
        assert verified.returncode == 0, verified.stderr
        boards = json.loads(verified.stdout)["boards"]
        assert [board["board"] for board in boards] == ["board-a", "board-b"]
        assert all(board["parity"][0]["verdict"] == "pass" for board in boards)
    finally:
        stopped = desk("fleet", "down", *port)
    assert stopped.stdout == "Stopped 2 boards and their scheduler.\n"
    gone = desk("fleet", "status", *port)
    assert gone.returncode == 1
    assert f"no scheduler answers at {scheduler}" in gone.stderr
