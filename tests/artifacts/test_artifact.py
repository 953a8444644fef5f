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
    check_format,
    describe,
    has_manifest,
    load_artifact,
    manifest_path,
    write_manifest,
)
from lenet_edge.errors import ModelFileError
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
    """A real .tflite file and its manifest, free to be harmed."""
    path = tmp_path / "probe.tflite"
    for source in (_probe.FOLDER / "probe.tflite", _probe.FOLDER / "probe.tflite.json"):
        shutil.copyfile(source, tmp_path / source.name)
    return path


@settings(max_examples=30)
@given(
    inputs=st.tuples(SPECS),
    outputs=st.tuples(SPECS),
    labels=st.lists(st.text(), max_size=3).map(tuple),
    batch_size=st.none() | st.integers(1, 512),
    calibration=st.none() | st.text(),
    pixel_scale=st.floats(1e-6, 1),
)
def test_a_manifest_says_again_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    labels: tuple[str, ...],
    batch_size: int | None,
    calibration: str | None,
    pixel_scale: float,
) -> None:
    path = tmp_path_factory.mktemp("manifest") / "lenet_int8.tflite"
    shutil.copyfile(_probe.FOLDER / "probe.tflite", path)
    artifact = describe(
        path,
        precision="int8",
        batch_size=batch_size,
        inputs=inputs,
        outputs=outputs,
        parent_sha256="0" * 64,
        converter="a converter",
        calibration=calibration,
        labels=labels,
        pixel_scale=pixel_scale,
    )
    write_manifest(artifact)
    assert load_artifact(path) == artifact
    assert artifact.format == "tflite"
    assert artifact.size_bytes == path.stat().st_size
    assert artifact.name == "lenet_int8.tflite"


def test_a_moved_folder_stays_whole(model: Path, tmp_path: Path) -> None:
    there = tmp_path / "elsewhere"
    there.mkdir()
    for path in (model, manifest_path(model)):
        path.rename(there / path.name)
    assert load_artifact(there / model.name).path == there / model.name


def test_the_sha256_is_that_of_sha256sum(model: Path) -> None:
    printed = subprocess.run(["sha256sum", model], capture_output=True, text=True, check=True)
    assert printed.stdout.split()[0] == sha256_of(model) == load_artifact(model).sha256


def test_one_changed_byte_is_noticed(model: Path) -> None:
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"probe\.tflite is not the file.*sha256.*again"):
        load_artifact(model)


def test_a_file_without_a_manifest(model: Path) -> None:
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
def test_a_damaged_manifest(model: Path, text: str) -> None:
    manifest_path(model).write_text(text, encoding="latin-1")
    with pytest.raises(ModelFileError, match=r"probe\.tflite\.json is not a manifest"):
        load_artifact(model)


LIES: dict[str, dict[str, Any]] = {
    "the size": {"size_bytes": 1},
    "the format": {"format": "onnx"},
    "the place": {"path": "/etc/passwd"},
}


@pytest.mark.parametrize("name", LIES)
def test_a_manifest_cannot_lie_about(model: Path, name: str) -> None:
    facts = json.loads(manifest_path(model).read_text())
    manifest_path(model).write_text(json.dumps({**facts, **LIES[name]}))
    artifact = load_artifact(model)
    assert (artifact.path, artifact.format) == (model, "tflite")
    assert artifact.size_bytes == model.stat().st_size


STRANGE: dict[str, dict[str, Any]] = {
    "a hash that is a path": {"parent_sha256": "../../../etc/passwd"},
    "two inputs": {"inputs": [{"name": "x", "shape": [1], "dtype": "float32"}] * 2},
    "no output": {"outputs": []},
    "a shape of letters": {"inputs": [{"name": "x", "shape": "abc", "dtype": "float32"}]},
    "a shape below nothing": {"inputs": [{"name": "x", "shape": [-1, 28], "dtype": "float32"}]},
    "no shape": {"inputs": [{"name": "x", "shape": [], "dtype": "float32"}]},
    "a batch of nothing": {"batch_size": 0},
    "a batch of yes": {"batch_size": True},
    "a vast number": {"pixel_scale": 10**400},
    "no number": {"pixel_scale": float("nan")},
    "labels in a text": {"labels": 7},
    "half a character": {"labels": ["\ud800"]},
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_manifest_that_cannot_be_true(model: Path, name: str) -> None:
    facts = json.loads(manifest_path(model).read_text())
    manifest_path(model).write_text(json.dumps({**facts, **STRANGE[name]}))
    with pytest.raises(ModelFileError, match=r"probe\.tflite\.json is not a manifest"):
        load_artifact(model)


def test_a_manifest_that_is_no_file(model: Path) -> None:
    """Whoever opens a pipe waits for somebody to write."""
    manifest_path(model).unlink()
    os.mkfifo(manifest_path(model))
    with pytest.raises(ModelFileError, match="is not a manifest"):
        load_artifact(model)


def test_a_manifest_of_another_version(model: Path) -> None:
    facts = json.loads(manifest_path(model).read_text())
    manifest_path(model).write_text(json.dumps({**facts, "manifest_version": 99}))
    with pytest.raises(ModelFileError, match=r"manifest version 99 is unknown.*upgrade"):
        load_artifact(model)


@pytest.mark.parametrize("format", ["tflite", "onnx", "keras"])
def test_a_real_file_is_known_by_its_content(format: str) -> None:
    assert check_format(_probe.FOLDER / f"probe.{format}") == format


@pytest.mark.parametrize(
    ("found", "named"),
    list(itertools.permutations(["tflite", "onnx", "keras"], 2)),
)
def test_a_renamed_file_is_called_what_it_is(tmp_path: Path, found: str, named: str) -> None:
    path = tmp_path / f"model.{named}"
    shutil.copyfile(_probe.FOLDER / f"probe.{found}", path)
    with pytest.raises(ModelFileError, match=rf"is named \.{named} but is a {found} file"):
        check_format(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.tflite", b"", "is empty; export it again"),
        ("model.tflite", b"This is a text.", "is named .tflite but is not a model"),
        ("model.onnx", b"\x08", "is named .onnx but is not a model"),
        ("model.onnx", b"\x89PNG\r\n\x1a\n", "is named .onnx but is not a model"),
        ("model.keras", b"P", "is named .keras but is not a model"),
        ("model.pt", b"PK\3\4....", "not a model file; expected one of .tflite, .onnx, .keras"),
        ("model", b"PK\3\4....", "not a model file"),
    ],
)
def test_a_file_that_is_no_model(tmp_path: Path, name: str, content: bytes, message: str) -> None:
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
def test_no_content_makes_it_stumble(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    path.write_bytes(start + rest)
    with contextlib.suppress(ModelFileError):
        assert check_format(path) == suffix


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    for name, wrong in (
        ("none.onnx", ": no such file; .*export"),
        ("folder.onnx", " is a folder; name the files in it"),
    ):
        with pytest.raises(ModelFileError, match=name + wrong):
            load_artifact(tmp_path / name)


def test_the_manifest_is_json_that_a_person_can_read(model: Path) -> None:
    artifact = load_artifact(model)
    write_manifest(artifact)
    text = manifest_path(model).read_text()
    assert text.endswith("}\n")
    facts = json.loads(text)
    assert facts.pop("manifest_version") == 1
    assert facts.pop("path") == "probe.tflite"
    assert set(facts) == {f.name for f in dataclasses.fields(Artifact)} - {"path"}
    assert facts["sha256"] == artifact.sha256


# --- a file and its manifest ---


def replaced(path: Path, content: bytes, steps: int) -> None:
    """Take the first `steps` steps of what replaces a model file and its manifest."""
    new = dataclasses.replace(load_artifact(path), calibration="new")
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        facts = describe(temporary, **{f: getattr(new, f) for f in NOT_OF_THE_FILE})
        new = dataclasses.replace(facts, path=path)
        announce(new)
        if steps == 1:
            raise InTheBlockError
    if steps == 2:
        raise InTheBlockError
    write_manifest(new)


NOT_OF_THE_FILE = {f.name for f in dataclasses.fields(Artifact)} - {
    "path", "format", "size_bytes", "sha256", "created_at"
}  # fmt: skip


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_file_never_has_the_manifest_of_another(model: Path, steps: int) -> None:
    """Whichever step a writer comes to, the file has a manifest that fits it."""
    old, content = load_artifact(model), model.read_bytes() + b"more"
    context = contextlib.nullcontext() if steps == 3 else pytest.raises(InTheBlockError)
    with context:
        replaced(model, content, steps)
    found = load_artifact(model)
    assert (found.calibration == "new") == (steps > 1)
    assert found == old if steps == 1 else model.read_bytes() == content
    replaced(model, content + b"again", 3)  # and the next writer goes on as ever
    assert load_artifact(model).calibration == "new"
    assert sorted(one.name for one in model.parent.iterdir()) == [model.name, f"{model.name}.json"]


def test_a_new_file_has_its_manifest_from_the_first_moment(model: Path) -> None:
    """A checkpoint without one would be taken for somebody else's, with other pixels."""
    artifact = load_artifact(model)
    announce(artifact)
    manifest_path(model).unlink()
    assert has_manifest(model)
    assert load_artifact(model) == artifact
