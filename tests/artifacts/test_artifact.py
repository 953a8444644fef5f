"""Tests of artifacts, their manifests, and the check of formats."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet_edge.artifacts.artifact import (
    Artifact,
    TensorSpec,
    announce,
    describe_file,
    has_manifest,
    load_artifact,
    manifest_path,
    write_manifest,
)
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.artifacts.preprocessing import Preprocessing
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.runtimes import _probe
from lenet_edge.support.files import atomic_write, sha256_of
from tests.support.test_files import InTheBlockError

SPECS = st.builds(
    TensorSpec,
    name=st.text(),
    shape=st.lists(st.none() | st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    dtype=st.sampled_from(["float32", "int8", "uint8"]),
    scale=st.none() | st.floats(1e-6, 10),
    zero_point=st.none() | st.integers(-128, 255),
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A real .tflite file and its manifest, which a test may damage."""
    path = tmp_path / "probe.tflite"
    for source in (_probe.FOLDER / "probe.tflite", _probe.FOLDER / "probe.tflite.json"):
        shutil.copyfile(source, tmp_path / source.name)
    return path


@pytest.mark.costly
@settings(max_examples=30)
@given(
    inputs=st.tuples(SPECS),
    outputs=st.tuples(SPECS),
    labels=st.lists(st.text(), max_size=3).map(tuple),
    batch_size=st.none() | st.integers(1, 512),
    calibration=st.none() | st.text(),
    scale=st.floats(1e-6, 1),
)
def test_manifest_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    labels: tuple[str, ...],
    batch_size: int | None,
    calibration: str | None,
    scale: float,
) -> None:
    path = tmp_path_factory.mktemp("manifest") / "lenet_int8.tflite"
    shutil.copyfile(_probe.FOLDER / "probe.tflite", path)
    artifact = describe_file(
        path,
        precision="int8",
        batch_size=batch_size,
        inputs=inputs,
        outputs=outputs,
        parent_sha256="0" * 64,
        converter="a converter",
        calibration=calibration,
        labels=labels,
        preprocessing=Preprocessing((scale,), origin="said"),
    )
    write_manifest(artifact)
    assert load_artifact(path) == artifact
    assert artifact.format == "tflite"
    assert artifact.size_bytes == path.stat().st_size
    assert artifact.name == "lenet_int8.tflite"


def test_folder_can_be_moved(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for path in (model, manifest_path(model)):
        path.rename(folder / path.name)
    assert load_artifact(folder / model.name).path == folder / model.name


def test_sha256_equals_sha256sum(model: Path) -> None:
    printed = subprocess.run(["sha256sum", model], capture_output=True, text=True, check=True)
    assert printed.stdout.split()[0] == sha256_of(model) == load_artifact(model).sha256


def test_changed_byte_is_detected(model: Path) -> None:
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"probe\.tflite is not the file.*sha256.*again"):
        load_artifact(model)


def test_file_without_manifest(model: Path) -> None:
    manifest_path(model).unlink()
    with pytest.raises(ModelFileError, match=r"no manifest \(probe\.tflite\.json\).*export"):
        load_artifact(model)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        '"text"',
        "null",
        "{}",
        '{"manifest_version": 1}',
        '{"manifest_version": 1, "inputs": 3, "outputs": [], "labels": []}',
        '{"manifest_version": 1, "inputs": [{"name": "x"}], "outputs": [], "labels": []}',
        '{"manifest_version": 1, "inputs": [], "outputs": [], "labels": [], "colour": "red"}',
        "\xff\xfe",
    ],
)
def test_damaged_manifest(model: Path, text: str) -> None:
    manifest_path(model).write_text(text, encoding="latin-1")
    with pytest.raises(ModelFileError, match=r"probe\.tflite\.json is not a manifest"):
        load_artifact(model)


FALSE_FACTS: dict[str, dict[str, Any]] = {
    "the size": {"size_bytes": 1},
    "the format": {"format": "onnx"},
    "the path": {"path": "/etc/passwd"},
}


@pytest.mark.parametrize("name", FALSE_FACTS)
def test_false_facts_are_ignored(model: Path, name: str) -> None:
    facts = json.loads(manifest_path(model).read_text())
    manifest_path(model).write_text(json.dumps({**facts, **FALSE_FACTS[name]}))
    artifact = load_artifact(model)
    assert (artifact.path, artifact.format) == (model, "tflite")
    assert artifact.size_bytes == model.stat().st_size


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "a hash that is a path": {"parent_sha256": "../../../etc/passwd"},
    "two inputs": {"inputs": [{"name": "x", "shape": [1], "dtype": "float32"}] * 2},
    "a shape of letters": {"inputs": [{"name": "x", "shape": "abc", "dtype": "float32"}]},
    "a shape below nothing": {"inputs": [{"name": "x", "shape": [-1, 28], "dtype": "float32"}]},
    "a batch of nothing": {"batch_size": 0},
    "a batch of yes": {"batch_size": True},
    "a vast number": {"pixel_scale": 10**400},
    "no number": {"pixel_scale": float("nan")},
    "labels in a text": {"labels": 7},
    "half a character": {"labels": ["\ud800"]},
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_manifest(model: Path, name: str) -> None:
    facts = json.loads(manifest_path(model).read_text())
    manifest_path(model).write_text(json.dumps({**facts, **IMPOSSIBLE[name]}))
    with pytest.raises(ModelFileError, match=r"probe\.tflite\.json is not a manifest"):
        load_artifact(model)


def test_manifest_that_is_a_pipe(model: Path) -> None:
    """Opening a pipe blocks until another process writes."""
    manifest_path(model).unlink()
    os.mkfifo(manifest_path(model))
    with pytest.raises(ModelFileError, match="is not a manifest"):
        load_artifact(model)


@pytest.mark.parametrize(("scale", "origin"), [(1 / 255, "read"), (1, "assumed")])
def test_manifests_of_version_1_have_a_factor_for_pixels(
    model: Path, scale: float, origin: str
) -> None:
    facts = json.loads(manifest_path(model).read_text())
    assert (facts["manifest_version"], facts["pixel_scale"]) == (1, 1 / 255)
    manifest_path(model).write_text(json.dumps({**facts, "pixel_scale": scale}))
    artifact = load_artifact(model)
    assert artifact.preprocessing == Preprocessing((scale,), origin=origin)
    write_manifest(artifact)
    assert load_artifact(model) == artifact
    assert "pixel_scale" not in json.loads(manifest_path(model).read_text())


def test_manifest_of_another_version(model: Path) -> None:
    facts = json.loads(manifest_path(model).read_text())
    manifest_path(model).write_text(json.dumps({**facts, "manifest_version": 99}))
    with pytest.raises(ModelFileError, match=r"manifest version 99 is unknown.*upgrade"):
        load_artifact(model)


@pytest.mark.parametrize("format", ["tflite", "onnx", "keras"])
def test_format_is_recognized_by_content(format: str) -> None:
    assert check_format(_probe.FOLDER / f"probe.{format}") == format


@pytest.mark.parametrize(
    ("actual", "named"),
    list(itertools.permutations(["tflite", "onnx", "keras"], 2)),
)
def test_renamed_file_is_recognized(tmp_path: Path, actual: str, named: str) -> None:
    path = tmp_path / f"model.{named}"
    shutil.copyfile(_probe.FOLDER / f"probe.{actual}", path)
    with pytest.raises(ModelFileError, match=rf"is named \.{named} but is a {actual} file"):
        check_format(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.tflite", b"", "is empty; export it again"),
        ("model.tflite", b"This is a text.", "is named .tflite but is not a model"),
        ("model.onnx", b"\x08", "is named .onnx but is not a model"),
        ("model.onnx", b"\x89PNG\r\n\x1a\n", "is named .onnx but is not a model"),
        ("model.keras", b"P", "is named .keras but is not a model"),
        ("model.txt", b"PK\3\4....", "not a model file; expected one of .tflite, .lite, .onnx"),
        ("model", b"PK\3\4....", "not a model file"),
    ],
)
def test_file_that_is_not_a_model(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        load_artifact(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    start=st.sampled_from([b"", b"\x08", b"P", b"\x1c\0\0\0TFL"]),
    rest=st.binary(max_size=4),
    suffix=st.sampled_from(["tflite", "onnx", "keras"]),
)
def test_any_content_is_accepted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    path.write_bytes(start + rest)
    with contextlib.suppress(ModelFileError):
        assert check_format(path) == suffix


def test_missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    for name, message in (
        ("none.onnx", ": no such file; .*export"),
        ("folder.onnx", " is a folder; name the files in it"),
    ):
        with pytest.raises(ModelFileError, match=name + message):
            load_artifact(tmp_path / name)


def test_manifest_is_readable_json(model: Path) -> None:
    artifact = load_artifact(model)
    write_manifest(artifact)
    text = manifest_path(model).read_text()
    assert text.endswith("}\n")
    facts = json.loads(text)
    assert facts.pop("manifest_version") == 2
    assert facts.pop("path") == "probe.tflite"
    assert set(facts) == {f.name for f in dataclasses.fields(Artifact)} - {"path"}
    assert facts["sha256"] == artifact.sha256


# --- a file and its manifest ---


def replace_model(path: Path, content: bytes, steps: int) -> None:
    """Do the first `steps` steps of the replacement of a model file and its manifest."""
    new = dataclasses.replace(load_artifact(path), calibration="new")
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        facts = describe_file(temporary, **{f: getattr(new, f) for f in CONTRACT_FACTS})
        new = dataclasses.replace(facts, path=path)
        announce(new)
        if steps == 1:
            raise InTheBlockError
    if steps == 2:
        raise InTheBlockError
    write_manifest(new)


CONTRACT_FACTS = {f.name for f in dataclasses.fields(Artifact)} - {
    "path", "format", "size_bytes", "sha256", "created_at", "parts", "oldest_runtime"
}  # fmt: skip


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_replaced_file_never_has_the_old_manifest(model: Path, steps: int) -> None:
    """After every step of the writer, the file has a manifest that describes it."""
    old, content = load_artifact(model), model.read_bytes() + b"more"
    context = contextlib.nullcontext() if steps == 3 else pytest.raises(InTheBlockError)
    with context:
        replace_model(model, content, steps)
    artifact = load_artifact(model)
    assert (artifact.calibration == "new") == (steps > 1)
    assert artifact == old if steps == 1 else model.read_bytes() == content
    replace_model(model, content + b"again", 3)  # the next writer is not disturbed
    assert load_artifact(model).calibration == "new"
    assert sorted(path.name for path in model.parent.iterdir()) == [
        model.name,
        f"{model.name}.json",
    ]


def test_new_file_has_its_manifest_at_once(model: Path) -> None:
    """A checkpoint without a manifest would be treated as foreign, with unscaled pixels."""
    artifact = load_artifact(model)
    announce(artifact)
    manifest_path(model).unlink()
    assert has_manifest(model)
    assert load_artifact(model) == artifact


def test_names_up_to_the_limit_of_the_file_system(model: Path) -> None:
    """A name of 255 bytes leaves no room for a manifest; such a file needs a contract inside."""
    longest = shutil.copyfile(model, model.with_name("n" * 248 + ".tflite"))
    assert not has_manifest(longest)
    with contextlib.suppress(ModelFileError):
        load_artifact(longest)
    artifact = load_artifact(model)
    with pytest.raises(LenetEdgeError, match="File name too long; give a shorter name"):
        write_manifest(dataclasses.replace(artifact, path=longest))
    shorter = shutil.copyfile(model, model.with_name("n" * 243 + ".tflite"))
    announce(dataclasses.replace(artifact, path=shorter))
    assert load_artifact(shorter).sha256 == artifact.sha256
    write_manifest(dataclasses.replace(artifact, path=shorter))
    assert [path.name for path in shorter.parent.glob(".*")] == []
