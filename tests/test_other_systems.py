"""Systems that lack parts of Linux, simulated by real processes in which these parts are missing.

This shows that the commands do not assume them. It is no test on macOS.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from lenet_edge.support import lock, temporary
from lenet_edge.support.files import atomic_write
from tests import needs
from tests.data.draw import FOLDER

SEVEN = FOLDER / "7-hasty-crayon.jpg"
ROOT = Path(__file__).parents[1]
# Python imports this module at its start, in each worker too. NumPy itself needs os.uname.
SITE = """
import os, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for name in ("fcntl", "resource", "termios"):
    sys.modules.pop(name, None)
for name in ("geteuid", "getuid", "memfd_create", "sched_getaffinity", "O_PATH", "O_TMPFILE"):
    delattr(os, name)
"""


@pytest.mark.slow
@pytest.mark.needs("unshare", "cc")
def test_a_board_s_commands_work_without_proc_fcntl_and_resource(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        needs.leave_out("hiding /proc needs root")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    for name in ("lenet_int8.onnx", "lenet_native_int8.c", "lenet_native_int8.h"):
        for path in (ROOT / "exported").glob(f"{name}*"):
            shutil.copy(path, tmp_path)
    for path in (ROOT / "exported").glob("reference-*.npz"):
        shutil.copy(path, tmp_path)
    # In the shared folder, processes with locks delete what no lock holds.
    environment = {
        **os.environ, "PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", "TMPDIR": str(tmp_path),
    }  # fmt: skip
    hide = 'mount -t tmpfs none /proc && exec "$@"'

    enter = ["unshare", "--mount", "sh", "-c", hide, "sh", sys.executable]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*enter, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip

    program = "import os; assert not os.path.exists('/proc/self'); import fcntl"
    assert "No module named 'fcntl'" in run("-c", program).stderr
    for words, status in (
        ("--help", 0),
        ("verify lenet_int8.onnx lenet_native_int8.c --target onnxruntime-cpu --target native-cpu"
         " --json v.json", 0),
        ("bench lenet_int8.onnx --target onnxruntime-cpu --batch-size 1 --rounds 1 --max-time 0.5"
         " --json t.json", 0),
        (f"predict {SEVEN} --model lenet_int8.onnx --json p.json", 0),
        ("report v.json t.json", 0),
    ):  # fmt: skip
        done = run("-m", "lenet_edge", *words.split())
        assert done.returncode == status, (words, done.stdout, done.stderr)
    serve = [*enter, "-m", "lenet_edge", "serve", "lenet_int8.onnx", "--port", "0"]
    with subprocess.Popen(
        serve, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:  # fmt: skip
        assert server.stdout
        (address,) = re.findall(r"http://\S+", server.stdout.readline())
        request = urllib.request.Request(
            f"{address}predict", SEVEN.read_bytes(), {"Content-Type": "image/jpeg"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            assert json.load(reply)["answers"][0]["label"] == "7"
        server.terminate()
    assert server.returncode == 0
    assert len(json.loads((tmp_path / "v.json").read_text())["parity"]) == 2
    assert json.loads((tmp_path / "p.json").read_text())["images"][0]["label"] == "7"


def test_without_locks_nothing_of_a_living_process_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with temporary.temporary_folder() as first, temporary.temporary_folder() as second:
        assert first.parent == second.parent == tmp_path
        assert first.exists()
    target = tmp_path / "result.json"
    with atomic_write(target) as outer:
        with atomic_write(target) as inner:
            inner.write_text("inner")
        outer.write_text("outer")
    assert target.read_text() == "outer"
