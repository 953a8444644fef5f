"""Other accounts of the machine and of the boards, which can reach every loopback port."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet import certificates
from tests.fleet.local_fleet import LocalFleet

pytestmark = pytest.mark.costly


@pytest.mark.slow
def test_another_account_is_refused_on_both_ends(tmp_path: Path) -> None:
    fleet = LocalFleet(tmp_path, ["a"])
    worker_port = fleet.port + 1
    try:
        started = fleet.fleet("up")
        assert started.returncode == 0, started.stderr
        # Dask's own HTTP servers listened on every interface.
        assert fleet.listening() == {f"127.0.0.1:{port}" for port in (fleet.port, worker_port)}
        done = subprocess.run(
            [sys.executable, "-m", "tests.fleet.intruder", str(fleet.certificates),
             str(fleet.port), str(worker_port)],
            env=fleet.environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        outcomes = json.loads(done.stdout)
        assert len(outcomes) == 9
        if os.geteuid() != 0:  # then the intruder is the same user
            outcomes = {name: outcome for name, outcome in outcomes.items() if " " in name}
        assert set(outcomes.values()) == {"refused"}, outcomes
        processes = fleet.processes()
        assert len(processes) == 2
        assert "PRIVATE KEY" not in "".join(processes.values())
        plain = fleet.run("verify", "x.tflite", "--scheduler", f"tcp://127.0.0.1:{fleet.port}")
        assert plain.returncode == 1
        shown = fleet.fleet("status", "--json", "-")  # the owner's command still works
        assert [board["state"] for board in json.loads(shown.stdout)] == ["idle"]
    finally:
        stopped = fleet.fleet("down")
    assert stopped.stdout == "Stopped 1 boards and their scheduler.\n"
    assert not fleet.certificates.exists()


@pytest.mark.slow
def test_a_port_of_another_account_is_not_used(tmp_path: Path) -> None:
    fleet = LocalFleet(tmp_path, ["a"])
    with socket.create_server(("127.0.0.1", fleet.port)):
        done = fleet.fleet("up")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the scheduler does not start" in done.stderr
    assert not fleet.certificates.exists()


def test_private_keys_are_in_a_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old = os.umask(0)
    try:
        certificates.save(certificates.make_certificates(), 1)
    finally:
        os.umask(old)
    folder = certificates.folder_of(1)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {f"{name}.pem": 0o600 for name in ("authority", "board", "client")}
    assert "PRIVATE" not in (folder / "authority.pem").read_text()
    loaded = certificates.load(1)
    assert loaded
    assert loaded.scheduler is None
    folder.chmod(0o755)
    with pytest.raises(LenetEdgeError, match="other users can open"):
        certificates.load(1)
    certificates.remove(1)
    assert certificates.load(1) is None
