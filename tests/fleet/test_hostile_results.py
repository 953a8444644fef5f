"""Boards of a fleet that reply with anything: they are lost, the other boards are measured."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lenet_edge.bench import limit
from lenet_edge.bench.plan import Plan, expand
from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet import driver
from lenet_edge.flows import fleet, fleet_bench
from lenet_edge.flows.fleet_session import Choice
from lenet_edge.results.result_file import FleetRun, load_runs
from lenet_edge.support import tagged_json
from lenet_edge.worker import Call
from tests.bench.scripted import make_artifact
from tests.fleet.scripted import Clock, ScriptedDask, board_reply, open_session

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]),
    st.just({}), st.just("\x1b[2J../../x"), st.just(2**70), st.just([[]]), st.just(b"\0"),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of each item in a reply."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = [path]
    for key, item in items:
        if isinstance(item, (dict, list, tuple)):
            found += places(item, (*path, key))
        else:
            found.append((*path, key))
    return found


def replaced(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """Return a reply with another value at a path."""
    if not path:
        return odd
    value = list(value) if isinstance(value, tuple) else copy.copy(value)
    value[path[0]] = replaced(value[path[0]], path[1:], odd)
    return value


class HostileScript:
    """An honest board a, and a board b that changes one value in one of its replies."""

    def __init__(self, data: st.DataObject, turn: int) -> None:
        self._data, self._turn = data, turn

    def __call__(self, name: str, call: Call[Any]) -> Any:
        reply = board_reply(call)
        if name == "b":
            self._turn -= 1
            if self._turn == 0:
                nested = isinstance(reply, (dict, list, tuple))
                path = self._data.draw(st.sampled_from(places(reply))) if nested else ()
                return replaced(reply, path, self._data.draw(ODD))
        return reply


@pytest.mark.costly
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data(), turn=st.integers(1, 8), measure=st.booleans())
def test_any_reply_ends_in_valid_results(
    data: st.DataObject, turn: int, measure: bool, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "time", Clock())
        patch.setattr(fleet_bench, "time", Clock())
        patch.setattr(limit, "count_macs", lambda artifacts: {"x": 1})
        patch.chdir(tmp_path)
        choice = Choice([make_artifact(tmp_path, "x.tflite")], ("litert-xnnpack",))
        dask = ScriptedDask(HostileScript(data, turn), "a", "b")
        session = open_session(dask, choice)

        def begin(count: int) -> Any:
            return lambda line: None

        if measure:
            result = fleet.bench(session, lambda pairs: Plan(expand(pairs, (1, 8))), False, begin)
        else:
            result = fleet.verify(session, {}, 1, begin)
        check_results(result, tmp_path / "results.json")


def check_results(result: FleetRun, path: Path) -> None:
    """The honest board is complete, and the file can be read again."""
    result.save(path)
    runs = {run.board: run for run in load_runs(path)}
    assert runs["a"].measurements or runs["a"].parity
    assert not runs["a"].skipped
    assert {lost.board for lost in result.lost} <= {"b"}
    for lost in result.lost:
        assert "\x1b" not in lost.reason
        assert len(lost.reason) < 1000


@pytest.mark.parametrize(
    "content",
    [None, 3, "text", b"", b"[" * 10**5, b"[]", b"{}", b'{"kind": 3}', b'{"$dict": 3}',
     b'{"$bytes": "?"}', b'{"kind": "a", "error": [1], "traceback": "x"}', b" " * (2**26 + 1),
     json.dumps({"result": {"$path": 3}}).encode()],
)  # fmt: skip
def test_a_reply_that_is_no_reply_is_an_error(content: Any) -> None:
    with pytest.raises(LenetEdgeError, match="returned an invalid reply"):
        driver._decode_reply("call", content)


def test_an_error_of_a_board_is_short() -> None:
    error = {"kind": "E", "error": "x" * 10**6, "traceback": "x" * 10**6}
    reply = driver._decode_reply("call", tagged_json.dumps(error).encode())
    assert max(map(len, reply.values())) == 1000
