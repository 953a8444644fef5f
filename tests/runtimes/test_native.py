"""The runtime `native`: building C files, and the cache of built libraries."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.bench import timing
from lenet_edge.bench.sampling import StopRule
from lenet_edge.errors import TargetError
from lenet_edge.results.measurement import Measurement
from lenet_edge.runtimes import _probe, get_target, native, open_session
from lenet_edge.runtimes.native import built_beside
from lenet_edge.selection import Pair
from lenet_edge.support.files import private_cache_folder, sha256_of
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.verify.verify import verify
from tests.needs import require

TARGET = get_target("native-cpu")
MARKING = """
#include <stdio.h>
__attribute__((constructor)) static void mark(void) {{ fclose(fopen("{mark}", "w")); }}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    require("cc")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lenet-edge" / "native"


@pytest.fixture
def artifact() -> Artifact:
    """A C file that compiles in a tenth of the time of LeNet."""
    return load_artifact(_probe.FOLDER / "probe.c")


@pytest.fixture(scope="module")
def lenet_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def lenet(exports: Path, lenet_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """The C file of LeNet. The tests share its cache folder, so that it is compiled once."""
    require("cc")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(lenet_cache))
    return load_artifact(exports / "lenet_native_int8.c")


def run_once(artifact: Artifact) -> None:
    with closing(open_session(artifact, TARGET)) as session:
        session.prepare(np.zeros((1, *_probe.IMAGE_SHAPE), np.float32))
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


def test_the_size_is_that_of_the_library(lenet: Artifact, lenet_cache: Path) -> None:
    target, stop = dataclasses.asdict(TARGET), StopRule(min_time_s=0, max_time_s=5, precision=1e9)
    measurement = Measurement.from_json(
        timing.measure(lenet.to_json(), target, 1, 1, dataclasses.asdict(stop))
    )
    (library,) = (lenet_cache / "lenet-edge" / "native").iterdir()
    # What is shipped: machine code and constants, not the C source, nor symbols for debuggers.
    assert 50_000 < measurement.size_bytes <= library.stat().st_size < lenet.size_bytes / 2
    assert measurement.built_for == os.uname().machine
    assert not measurement.has_source_size


def test_another_compiler_builds_again(
    artifact: Artifact, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("clang")
    run_once(artifact)
    monkeypatch.setenv("CC", "clang")
    run_once(artifact)
    assert len(list(cache.iterdir())) == 2


def test_concurrent_processes_build_one_library(artifact: Artifact, cache: Path) -> None:
    """Each process renames its own file, so that none loads an incomplete library."""
    code = (
        "import sys, numpy as np; from pathlib import Path;"
        "from lenet_edge.artifacts.artifact import load_artifact;"
        "from lenet_edge.runtimes import get_target, open_session;"
        "s = open_session(load_artifact(Path(sys.argv[1])), get_target('native-cpu'));"
        "s.prepare(np.ones((1, 4, 4, 1), np.float32)); s.infer(); print(s.logits().sum())"
    )
    command = [sys.executable, "-c", code, str(artifact.path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert {process.communicate(timeout=120)[0] for process in processes} == {"16.0\n"}
    assert [process.returncode for process in processes] == [0] * 4
    assert [path.suffix for path in cache.iterdir()] == [".so"]


def test_without_a_compiler_the_target_is_skipped_with_the_reason(
    exports: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = load_artifact(exports / "lenet_native_int8.c")
    monkeypatch.setenv("CC", "no-such-cc")
    _, skipped = verify([Pair(artifact, TARGET)])
    assert [(pair.target, pair.artifact) for pair in skipped] == [("native-cpu", artifact.name)]
    assert "there is no C compiler (no-such-cc); install one" in skipped[0].reason
    assert not cache.exists()


def test_a_compiler_error_is_reported(
    artifact: Artifact, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "cc -include no-such-file.h")
    with pytest.raises(TargetError, match=r"probe\.c cannot be built: cc reports: .*error"):
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


def test_a_doubtful_library_in_the_cache_is_built_again(
    artifact: Artifact, cache: Path, tmp_path: Path
) -> None:
    def damage(library: Path) -> None:
        library.write_bytes(library.read_bytes()[:1000])

    def link(library: Path) -> None:
        library.replace(tmp_path / "elsewhere.so")
        library.symlink_to(tmp_path / "elsewhere.so")

    def give_away(library: Path) -> None:
        if os.geteuid() == 0:
            os.chown(library, 12345, 12345)

    run_once(artifact)
    for harm in (damage, link, give_away, lambda library: library.chmod(0o666)):
        (library,) = cache.iterdir()
        harm(library)
        run_once(artifact)
        (library,) = cache.iterdir()
        status = library.lstat()
        assert stat.S_ISREG(status.st_mode)
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o600)


@pytest.mark.parametrize("exists", [False, True])
def test_a_umask_of_zero_opens_the_cache_to_nobody(
    artifact: Artifact, cache: Path, exists: bool
) -> None:
    before = os.umask(0)
    try:
        if exists:
            cache.mkdir(parents=True, mode=0o755)
            cache.parent.chmod(0o777)
        run_once(artifact)
    finally:
        os.umask(before)
    for path in (*cache.iterdir(), cache, cache.parent):
        assert not path.stat().st_mode & 0o022, path


def shared_library(path: Path, mark: Path) -> Path:
    """Compile a library that leaves a file when it is loaded."""
    source = path.with_suffix(".mark.c")
    source.write_text(MARKING.format(mark=mark))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source], check=True, timeout=60)
    return path


def test_a_library_beside_a_c_file_is_not_loaded(
    artifact: Artifact, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name has the hash of the C file, but anybody can write this name."""
    path = tmp_path / artifact.path.name
    path.write_bytes(artifact.path.read_bytes())
    beside = built_beside(path, path.read_bytes(), os.uname().machine)
    shared_library(beside, tmp_path / "owned")
    monkeypatch.chdir(tmp_path)
    bare = dataclasses.replace(artifact, path=Path(path.name))
    run_once(bare)
    monkeypatch.setenv("CC", "no-such-cc")
    with pytest.raises(
        TargetError, match=r"is not loaded, because only a bundle proves.*no C comp"
    ):
        run_once(bare)
    assert not (tmp_path / "owned").exists()


def test_a_bundle_loads_the_library_that_it_contains(
    artifact: Artifact, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_once(artifact)
    (library,) = cache.iterdir()
    path = tmp_path / "exported" / artifact.path.name
    path.parent.mkdir()
    path.write_bytes(artifact.path.read_bytes())
    beside = built_beside(path, path.read_bytes(), os.uname().machine)
    beside.write_bytes(library.read_bytes())
    hashes = {f"exported/{file.name}": sha256_of(file) for file in (path, beside)}
    (tmp_path / "bundle.json").write_text(json.dumps({"files": hashes}))
    monkeypatch.setattr(native, "__file__", str(tmp_path / "lenet_edge" / "runtimes" / "native.py"))
    monkeypatch.setenv("CC", "no-such-cc")
    monkeypatch.chdir(path.parent)  # the dynamic linker does not find a bare name
    bare = dataclasses.replace(artifact, path=Path(path.name))
    run_once(bare)
    beside.write_bytes(library.read_bytes() + b"changed")
    with pytest.raises(TargetError, match="is not loaded"):
        run_once(bare)


SLOW_COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then echo "slow 1.0"; exit; fi
sleep 60 &
echo $! > {pids}.new; mv {pids}.new {pids}
wait
"""


@pytest.mark.costly
def test_a_killed_process_leaves_no_compiler_and_no_folder(
    artifact: Artifact, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, pids = tmp_path / "slow-cc", tmp_path / "pids"
    compiler.write_text(SLOW_COMPILER.format(pids=pids))
    compiler.chmod(0o755)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = (
        "import sys; from pathlib import Path;"
        "from lenet_edge.artifacts.artifact import load_artifact;"
        "from lenet_edge.runtimes import get_target, open_session;"
        "open_session(load_artifact(Path(sys.argv[1])), get_target('native-cpu'))"
    )
    environment = {**os.environ, "CC": str(compiler), "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", code, str(artifact.path)]
    with subprocess.Popen(command, env=environment) as process:
        wait_until(pids.exists)
        process.kill()
    child = Path("/proc", pids.read_text().strip())
    wait_until(lambda: not child.exists() or " Z " in (child / "stat").read_text())
    assert len(list(temporary.iterdir())) == 1
    with temporary_folder(temporary) as folder:
        assert list(temporary.iterdir()) == [folder]
    assert not list(temporary.iterdir())


def wait_until(is_true: Callable[[], bool]) -> None:
    for _ in range(600):
        if is_true():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within 30 s")


def test_a_relative_cache_folder_is_ignored(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The XDG base directory specification requires this."""
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert private_cache_folder("native") == tmp_path / ".cache" / "lenet-edge" / "native"


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_threads_compute_the_same(lenet: Artifact, batch_size: int) -> None:
    images = np.random.default_rng(0).random((batch_size, 28, 28, 1), np.float32)
    logits = []
    before = threading.active_count()
    for num_threads in (1, 3):
        with closing(open_session(lenet, TARGET, num_threads)) as session:
            assert threading.active_count() == before + num_threads - 1
            for turn in range(20):
                session.prepare(images * turn)
                session.infer()
            logits.append(session.logits())
    np.testing.assert_array_equal(logits[0], logits[1])
    assert threading.active_count() == before


def test_another_c_file_is_refused(cache: Path, tmp_path: Path, artifact: Artifact) -> None:
    path = tmp_path / "other.c"
    path.write_text("/* Neural nets are elsewhere */\nint main(void) { return 0; }\n")
    with pytest.raises(TargetError, match=r"other\.c is not a C file of lenet-edge"):
        open_session(dataclasses.replace(artifact, path=path), TARGET)


def test_the_probe_comes_from_the_probe_checkpoint() -> None:
    probe = load_artifact(_probe.FOLDER / "probe.c")
    assert probe.parent_sha256 == load_artifact(_probe.FOLDER / "probe.keras").sha256
    assert os.path.getsize(probe.path) < 100_000
