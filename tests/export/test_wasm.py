"""The network as WebAssembly: what is in the file; serve/test_wasm.py runs it in a browser."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.artifacts.embedded import read_contract, wasm_sections
from lenet_edge.errors import ModelFileError, TargetError
from lenet_edge.export import wasm
from lenet_edge.export.converter import ConversionRequest
from lenet_edge.export.embed import embed
from lenet_edge.runtimes import get_target, open_session
from tests.conftest import LenetEdge
from tests.export.test_native_networks import keras, network
from tests.needs import BUILD_WASM, require

TARGET = get_target("wasmtime-cpu")


@pytest.fixture
def artifact(exports: Path) -> Artifact:
    require(*BUILD_WASM)
    return load_artifact(exports / "lenet_float32.wasm")


def test_it_is_small_and_asks_for_nothing(artifact: Artifact) -> None:
    import wasmtime

    assert 240_000 < artifact.size_bytes < 260_000
    module = wasmtime.Module.from_file(wasmtime.Engine(), str(artifact.path))
    assert module.imports == []
    assert [one.name for one in module.exports] == ["memory", "lenet", "lenet_batch", "__heap_base"]


def test_it_says_what_it_is_without_its_manifest(artifact: Artifact, tmp_path: Path) -> None:
    alone = load_artifact(Path(shutil.copy(artifact.path, tmp_path / "moved.wasm")))
    told = dataclasses.replace(alone, path=artifact.path, created_at=artifact.created_at)
    assert told == artifact


def test_another_contract_takes_the_place_of_the_first(artifact: Artifact, tmp_path: Path) -> None:
    content = artifact.path.read_bytes()
    path = tmp_path / "other.wasm"
    for text in ("{}", json.dumps({"labels": ["ä" * 300]})):
        path.write_bytes(embed(content, "wasm", text))
        assert read_contract(path, "wasm") == text
        names = [name for name, _, _ in wasm_sections(path.read_bytes())]
        assert names.count(b"lenet_edge") == 1
        assert len(names) == len(list(wasm_sections(content)))


def test_half_a_file_and_somebody_else_s_are_refused(artifact: Artifact, tmp_path: Path) -> None:
    content = artifact.path.read_bytes()
    path = tmp_path / "half.wasm"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match=r"half\.wasm is damaged"):
        load_artifact(path)
    theirs = tmp_path / "theirs.wasm"
    theirs.write_bytes(content[:8])  # a module, and empty
    with pytest.raises(TargetError, match=r"theirs\.wasm is no \.wasm file of lenet-edge"):
        open_session(dataclasses.replace(artifact, path=theirs), TARGET)
    with pytest.raises(TargetError, match="runs on one thread, not 2"):
        open_session(artifact, TARGET, num_threads=2)


def test_memory_grows_with_the_batch(artifact: Artifact) -> None:
    session = open_session(artifact, TARGET)
    images = np.random.default_rng(0).random((2000, 28, 28, 1), np.float32)
    session.prepare(images)
    session.infer()
    together = session.logits()
    session.prepare(images[-1:])
    session.infer()
    np.testing.assert_array_equal(session.logits(), together[-1:])
    session.close()


def test_without_clang_nothing_is_made(
    exports: Path, lenet_edge: LenetEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    made = lenet_edge("export", exports / "lenet.keras", "--format", "wasm", "--output-dir", "out")
    assert made.returncode == 1
    said = " ".join(made.stderr.split())
    assert "needs clang and wasm-ld, and there is no clang; install both" in said
    assert not (tmp_path / "out").exists()


def test_a_clang_that_cannot_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as Apple's, which knows no WebAssembly."""
    require(*BUILD_WASM)
    (tmp_path / "clang").write_text(
        "#!/bin/sh\necho 'error: unable to create target' >&2; exit 1\n"
    )
    (tmp_path / "clang").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    layers = keras().layers
    model = network((4, 4, 1), [layers.Flatten(), layers.Dense(10)])
    with pytest.raises(ModelFileError, match=r"WebAssembly of it: error: unable to create target"):
        wasm.convert(ConversionRequest(model, "float32", np.zeros((1, 4, 4, 1), np.float32)))
