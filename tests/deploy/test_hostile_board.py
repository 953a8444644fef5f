"""Boards that reply with anything: one line of an error, in bounded time and memory."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lenet_edge.deploy import ssh
from lenet_edge.deploy.replies import BoardFacts, CommandResult
from lenet_edge.deploy.ssh import SshConnection
from lenet_edge.errors import BoardError
from lenet_edge.flows.deploy import _differences, _read_findings
from lenet_edge.results.result_file import BenchRun
from lenet_edge.support.printable import make_printable
from tests.conftest import LenetEdge
from tests.deploy.scripted_board import FACTS, install, reply

INT8 = Path(__file__).parents[2] / "exported" / "lenet_int8.tflite"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=8,
)
CHANGED_FACTS = st.builds(
    lambda name, value: {**FACTS, name: value}, st.sampled_from(sorted(FACTS)), JSON
)
REPLIES = st.one_of(
    st.binary(max_size=300),
    st.builds(reply, JSON),
    st.builds(lambda facts: reply({"result": facts}), CHANGED_FACTS | JSON),
    st.builds(lambda text: reply({"progress": text}) + reply({"error": text}), st.text()),
    st.builds(lambda size, rest: reply({"content": size}) + rest, JSON, st.binary(max_size=9)),
)
KINDS = {
    "describe_board": BoardFacts, "run_command": CommandResult, "list_missing": tuple[str, ...],
    "activate": dict[str, str], "fetch_result": bytes | None, "unpack_release": None,
}  # fmt: skip


# Each example is a process, so that a search for a smaller one would take minutes.
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)


def check_message(message: str) -> None:
    assert make_printable(message) == message
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.costly
@settings(
    max_examples=30,
    phases=NO_SHRINKING,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(content=REPLIES, function=st.sampled_from(sorted(KINDS)))
def test_any_reply_has_the_expected_type_or_is_an_error(
    content: bytes, function: str, tmp_path: Path
) -> None:
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        install(tmp_path, patch).write_bytes(content)
        patch.setattr(ssh, "_TIMEOUT_S", 30.0)
        try:
            with contextlib.closing(SshConnection("board")) as board:
                result = board.call(function, KINDS[function], report=lines.append)
        except BoardError as error:
            check_message(str(error))
        else:
            kind = {"describe_board": BoardFacts, "run_command": CommandResult,
                    "list_missing": tuple, "activate": dict}.get(function)  # fmt: skip
            assert result is None if kind is None else isinstance(result, kind) or result == b""
    for line in lines:
        check_message(line)
    assert {path.name for path in tmp_path.iterdir()} == {"ssh", "reply"}


MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=2).returncode
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.costly
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (reply({"result": {**FACTS, "machine": "../../../x"}}), "machine is '../../../x'"),
        (reply({"error": "\x1b[2Jgone\r\n" + "x" * 10**5}), "board: \ufffd[2Jgone"),
        (b"@ENDLESS@" + b"x" * 4096, "a line has more than 1,048,576 bytes"),
        (b"@ENDLESS@" + b"x" * 4095 + b"\n", "more than 1,048,576 bytes of other text"),
        (b"@ENDLESS@" + reply({"progress": "x"}), "100,000 lines of progress"),
        (b"@SILENT@", "it took too long"),
    ],
)  # fmt: skip
def test_deploy_reports_a_hostile_board_in_one_line(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    install(tmp_path / "bin", monkeypatch).write_bytes(content)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "deep/er/cache"))
    program = (
        "import sys\nfrom lenet_edge.deploy import ssh\nfrom lenet_edge.cli import main\n"
        "ssh._TIMEOUT_S = 4.0\nmain()"
    )
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    started = time.monotonic()
    with (tmp_path / "bin/stderr").open("w+") as stderr:
        before.add(tmp_path / "bin/stderr")
        command = [sys.executable, "-c", program, "deploy", "--dry-run", "board", str(INT8)]
        # A small process starts the command: a child inherits the peak memory of its parent.
        measured = subprocess.run(
            [sys.executable, "-c", MEASURE, *command],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False,
        )  # fmt: skip
        returncode, peak_kb = map(int, measured.stdout.split())
        stderr.seek(0)
        lines = [line for line in stderr.read().splitlines() if line != "x"]
    assert (returncode, len(lines)) == (1, 1), lines
    assert message in lines[0]
    check_message(lines[0])
    assert time.monotonic() - started < 60
    assert peak_kb < 400_000  # NumPy and the command itself take 100 MB
    after = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    assert after - before <= {tmp_path / "deep", tmp_path / "deep/er"}


def test_a_service_without_systemd_is_refused_before_any_work(
    lenet_edge_here: LenetEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {**FACTS, "systemd": False, "time_s": time.time()}
    install(tmp_path, monkeypatch).write_bytes(reply({"result": facts}))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = lenet_edge_here("deploy", "board", INT8, "--service")
    assert done.returncode == 1
    assert "board: --service needs systemd" in done.stderr
    assert not (tmp_path / "cache/lenet-edge/wheels").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (reply({"result": {**FACTS, "machine": "x" * 5000}}), "machine is 'xxx"),
        (reply({"result": {**FACTS, "glibc": "2.99999999999"}}), "glibc is"),
        (reply({"result": {**FACTS, "python": [3, 11]}}), "python is (3, 11)"),
        (reply({"result": {**FACTS, "time_s": 1e300}}), "time_s is"),
        (reply({"result": {**FACTS, "extra": 1}}), "extra"),
        (b"@MARKER@ " + b"[" * 100_000 + b"\n", "is invalid"),
    ],
)  # fmt: skip
def test_impossible_facts_are_refused(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch).write_bytes(content)
    with contextlib.closing(SshConnection("board")) as board:
        with pytest.raises(BoardError, match=re.escape(message)):
            board.call("describe_board", BoardFacts)


@pytest.mark.parametrize("greeting", ["Welcome!\n", "lenet-edge {}\n", "no new line", "\x1b[2J\0"])
def test_a_greeting_is_not_a_reply(
    greeting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    monkeypatch.delenv("REPLY")
    monkeypatch.setenv("GREETING", greeting.replace("\0", ""))
    monkeypatch.setenv("HOME", str(tmp_path))
    with contextlib.closing(SshConnection("board", python=sys.executable)) as board:
        facts = board.call("describe_board", BoardFacts)
        assert facts.home == str(tmp_path)
        assert board.call("fetch_result", bytes | None, name="absent") is None
        (tmp_path / ".local/share/lenet-edge/work").mkdir(parents=True)
        (tmp_path / ".local/share/lenet-edge/work/x").write_bytes(b"\n\0@MARKER@\n")
        assert board.call("fetch_result", bytes | None, name="x") == b"\n\0@MARKER@\n"
        assert board.call("uninstall", tuple[str, ...]) != ()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"findings": 3}', b'{"findings": [{"check": 1}]}', b"[" * 100_000,
     json.dumps({"findings": [{"check": "a", "status": "odd", "found": ""}]}).encode()],
)  # fmt: skip
def test_findings_of_a_board_have_their_types(content: bytes) -> None:
    with pytest.raises(BoardError, match=r"doctor\.json is damaged"):
        _read_findings("board", content)


@pytest.mark.parametrize(
    "logits", [np.zeros((3, 10)), np.zeros((2, 10), np.int8), np.array(["x"] * 20).reshape(2, 10)]
)
def test_logits_of_a_board_have_the_shape_and_type_of_ours(logits: Any) -> None:
    from lenet_edge.artifacts.artifact import load_artifact

    run, name = BenchRun.of_this_machine(()), "lenet_int8.tflite on litert"
    ours = np.zeros((2, 10), np.float32)
    with pytest.raises(BoardError, match="another shape or type"):
        list(_differences([load_artifact(INT8)], {name: logits}, {name: ours}, run, run))


def test_a_machine_name_of_a_board_is_one_short_folder(tmp_path: Path) -> None:
    import dataclasses

    run = BenchRun.of_this_machine(())
    for name in ("../../../x", "", "x" * 5000, "\x1b[2J/", "/etc/passwd"):
        environment = dataclasses.replace(run.environment, machine=name)
        path = dataclasses.replace(run, environment=environment).default_path(tmp_path)
        assert path.parent.parent == tmp_path
        assert ".." not in path.parts
        assert len(path.parent.name) <= 100
