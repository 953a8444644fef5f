"""The runtime `native`: building C files, and the cache of built libraries."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.errors import TargetError
from lenet_edge.runtimes import _probe, get_target, open_session
from lenet_edge.runtimes.native import cache_folder
from lenet_edge.selection import Pair
from lenet_edge.verify.verify import verify
from tests.needs import require

TARGET = get_target("native-cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    require("cc")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lenet-edge" / "native"


@pytest.fixture
def artifact(exports: Path) -> Artifact:
    return load_artifact(exports / "lenet_native_int8.c")


def run_once(artifact: Artifact) -> None:
    with closing(open_session(artifact, TARGET)) as session:
        session.prepare(np.zeros((1, 28, 28, 1), np.float32))
        session.infer()
        assert session.logits().shape == (1, 10)


def test_a_file_is_built_once(artifact: Artifact, cache: Path) -> None:
    run_once(artifact)
    (library,) = cache.iterdir()
    built_at = library.stat().st_mtime_ns
    run_once(artifact)
    (again,) = cache.iterdir()
    assert (again, again.stat().st_mtime_ns) == (library, built_at)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_another_compiler_builds_again(
    artifact: Artifact, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("clang")
    run_once(artifact)
    monkeypatch.setenv("CC", "clang")
    run_once(artifact)
    assert len(list(cache.iterdir())) == 2


def test_concurrent_processes_build_one_library(exports: Path, cache: Path) -> None:
    """Each process renames its own file, so that none loads an incomplete library."""
    code = (
        "import sys, numpy as np; from pathlib import Path;"
        "from lenet_edge.artifacts.artifact import load_artifact;"
        "from lenet_edge.runtimes import get_target, open_session;"
        "s = open_session(load_artifact(Path(sys.argv[1])), get_target('native-cpu'));"
        "s.prepare(np.zeros((1, 28, 28, 1), np.float32)); s.infer(); print(s.logits().sum())"
    )
    path = exports / "lenet_native_int8.c"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({process.communicate(timeout=120)[0] for process in processes}) == 1
    assert [process.returncode for process in processes] == [0] * 4
    assert [path.suffix for path in cache.iterdir()] == [".so"]


def test_without_a_compiler_the_target_is_skipped_with_the_reason(
    artifact: Artifact, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-cc")
    _, skipped = verify([Pair(artifact, TARGET)])
    assert [(pair.target, pair.artifact) for pair in skipped] == [("native-cpu", artifact.name)]
    assert "there is no C compiler (no-such-cc); install one" in skipped[0].reason
    assert not cache.exists()


def test_a_compiler_error_is_reported(
    artifact: Artifact, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "cc -include no-such-file.h")
    with pytest.raises(
        TargetError, match=r"lenet_native_int8\.c cannot be built: cc reports: .*error"
    ):
        run_once(artifact)
    assert not list(cache.iterdir())


def test_a_cache_folder_that_others_can_write_to_is_refused(
    artifact: Artifact, cache: Path
) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with pytest.raises(TargetError, match="other users can write to"):
        run_once(artifact)
    assert not list(cache.iterdir())


def test_a_relative_cache_folder_is_ignored(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The XDG base directory specification requires this."""
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "lenet-edge" / "native"


def test_several_threads_are_refused(artifact: Artifact, cache: Path) -> None:
    with pytest.raises(TargetError, match="runs on one thread, not 2"):
        open_session(artifact, TARGET, num_threads=2)


def test_another_c_file_is_refused(cache: Path, tmp_path: Path, artifact: Artifact) -> None:
    path = tmp_path / "other.c"
    path.write_text("/* Neural nets are elsewhere */\nint main(void) { return 0; }\n")
    with pytest.raises(TargetError, match=r"other\.c is not a C file of lenet-edge"):
        open_session(dataclasses.replace(artifact, path=path), TARGET)


def test_the_probe_comes_from_the_probe_checkpoint() -> None:
    probe = load_artifact(_probe.FOLDER / "probe.c")
    assert probe.parent_sha256 == load_artifact(_probe.FOLDER / "probe.keras").sha256
    assert os.path.getsize(probe.path) < 100_000
