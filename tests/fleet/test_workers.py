"""Facts that workers state about themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet.connection import connected_boards, connected_workers

HONEST = {"name": "a", "resources": {"board": 1.0}, "last_seen": 1.0}


def client_of(*workers: Any) -> Any:
    facts = {f"tls://127.0.0.1:{port}": worker for port, worker in enumerate(workers)}
    return SimpleNamespace(scheduler_info=lambda: {"workers": facts})


@pytest.mark.parametrize("name", ["pi5-a", 7, "tcp://127.0.0.1:3456", "lab 2 / left"])
def test_names_of_boards(name: Any) -> None:
    (board,) = connected_boards(client_of({**HONEST, "name": name}))
    assert board.name == str(name)


@pytest.mark.parametrize(
    "changed",
    [{"name": "\x1b[2J"}, {"name": "x" * 10**6}, {"name": ""}, {"name": "a\n"}, {"name": None},
     {"resources": []}, {"resources": {"board": "x"}}, {"last_seen": "now"}],
)  # fmt: skip
def test_a_worker_with_impossible_facts_is_an_error_in_one_line(changed: Any) -> None:
    facts = {**HONEST, **changed}
    if changed == {"name": None}:
        del facts["name"]
    with pytest.raises(LenetEdgeError, match="is no board") as caught:
        connected_workers(client_of(HONEST, facts))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
