"""A board with a certificate of the fleet: it runs no code here, neither on the scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import pickle
from pathlib import Path

import pytest

from lenet_edge.fleet import certificates, untrusted
from lenet_edge.fleet.connection import RESOURCE, connect, connected_boards
from tests.fleet import hostile_results
from tests.fleet.local_fleet import LocalFleet


@pytest.mark.slow
def test_a_board_runs_no_code_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, folder = LocalFleet(tmp_path, ["a"]), tmp_path / "records"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", fleet.environment["XDG_CACHE_HOME"])
    try:
        started = fleet.fleet("up")
        assert started.returncode == 0, started.stderr
        pems = certificates.load(fleet.port)
        assert pems
        asyncio.run(hostile_results.attack(fleet.scheduler, pems, folder))
        assert not list(folder.iterdir())
        with connect(fleet.scheduler) as client:  # the scheduler still runs
            (board,) = connected_boards(client)
            (pid,) = client.run(os.getpid).values()
            for function in (hostile_results.return_payload, hostile_results.raise_payload):
                future = client.submit(
                    function, str(folder), workers=[board.address], resources={RESOURCE: 1}
                )
                with contextlib.suppress(Exception):  # not of the payload's class
                    assert isinstance(future.result(timeout=30), untrusted.RemoteError)
            absent = client.submit(
                importlib.metadata.version, "no-such-package",
                workers=[board.address], resources={RESOURCE: 1},
            )  # fmt: skip
            with pytest.raises(untrusted.RemoteError, match="no-such-package"):
                absent.result(timeout=30)
        # Dask itself unpickles an exception on the board, to test that this is possible.
        assert {path.name for path in folder.iterdir()} <= {str(pid)}
    finally:
        stopped = fleet.fleet("down")
    assert stopped.stdout == "Stopped 1 boards and their scheduler.\n"


@pytest.mark.slow
def test_the_output_of_a_board_is_bounded_and_harmless(tmp_path: Path) -> None:
    ssh = (
        '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\n'
        "case $2 in endless) exec yes;; escape) printf '\\033[2J\\007gone\\n'; exit 1;; esac\n"
    )
    fleet = LocalFleet(tmp_path, ["endless", "escape"], ssh)
    try:
        done = fleet.fleet("up")
        assert (done.returncode, done.stderr.count("\n")) == (3, 2), done.stderr
        assert "endless: y (" in done.stderr
        assert "escape: \N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}gone (" in done.stderr
        assert (tmp_path / "fleet.logs/endless.log").stat().st_size <= 2**26
    finally:
        fleet.fleet("down")


def test_only_plain_data_and_exceptions_are_unpickled(tmp_path: Path) -> None:
    plain = {"a": [1, 2.5, "x", b"y", None, (True,)]}
    token = untrusted._reading_untrusted.set(True)
    try:
        for honest in (plain, bytes):
            assert untrusted.load_pickle(pickle.dumps(honest)) == honest
        error = untrusted.load_pickle(pickle.dumps(ValueError("x")))
        assert (type(error), str(error)) == (untrusted.RemoteError, "x")
        hostile = hostile_results.Payload(str(tmp_path))
        loaded = untrusted.load_pickle(pickle.dumps(hostile))
        assert isinstance(loaded, untrusted.RemoteError)
    finally:
        untrusted._reading_untrusted.reset(token)
    assert not list(tmp_path.iterdir())
    untrusted.load_pickle(pickle.dumps(hostile))  # as Dask does for its own clusters
    assert list(tmp_path.iterdir())
