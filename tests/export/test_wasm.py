"""Tests of the content of .wasm files; serve/test_wasm.py runs them in a browser."""

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


def test_file_is_small_and_imports_nothing(artifact: Artifact) -> None:
    import wasmtime

    assert 240_000 < artifact.size_bytes < 260_000
    module = wasmtime.Module.from_file(wasmtime.Engine(), str(artifact.path))
    assert module.imports == []
    assert [export.name for export in module.exports] == [
        "memory",
        "lenet",
        "lenet_batch",
        "__heap_base",
    ]


def test_contract_equals_the_manifest(artifact: Artifact, tmp_path: Path) -> None:
    alone = load_artifact(Path(shutil.copy(artifact.path, tmp_path / "moved.wasm")))
    same = dataclasses.replace(alone, path=artifact.path, created_at=artifact.created_at)
    assert same == artifact


def test_new_contract_replaces_the_old(artifact: Artifact, tmp_path: Path) -> None:
    content = artifact.path.read_bytes()
    path = tmp_path / "other.wasm"
    for text in ("{}", json.dumps({"labels": ["ä" * 300]})):
        path.write_bytes(embed(content, "wasm", text))
        assert read_contract(path, "wasm") == text
        names = [name for name, _, _ in wasm_sections(path.read_bytes())]
        assert names.count(b"lenet_edge") == 1
        assert len(names) == len(list(wasm_sections(content)))


def test_truncated_and_foreign_files_are_refused(artifact: Artifact, tmp_path: Path) -> None:
    content = artifact.path.read_bytes()
    path = tmp_path / "half.wasm"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match=r"half\.wasm is damaged"):
        load_artifact(path)
    foreign = tmp_path / "foreign.wasm"
    foreign.write_bytes(content[:8])  # a module, and empty
    with pytest.raises(TargetError, match=r"foreign\.wasm is not a \.wasm file of lenet-edge"):
        open_session(dataclasses.replace(artifact, path=foreign), TARGET)
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


def test_without_clang_nothing_is_written(
    exports: Path, lenet_edge: LenetEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    process = lenet_edge(
        "export", exports / "lenet.keras", "--format", "wasm", "--output-dir", "out"
    )
    assert process.returncode == 1
    message = " ".join(process.stderr.split())
    assert "needs clang and wasm-ld, and there is no clang; install both" in message
    assert not (tmp_path / "out").exists()


def test_clang_without_webassembly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's clang, for example, cannot build WebAssembly."""
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
