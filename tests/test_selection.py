"""Tests of the selection of artifacts and targets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.deploy.wheels import WheelSet
from lenet_edge.errors import ModelFileError, TargetError
from lenet_edge.runtimes import (
    NOT_BY_DEFAULT,
    absence,
    all_targets,
    find_targets,
    get_target,
    is_installed,
    refusal,
)
from lenet_edge.selection import best_target, load_artifacts, pair_up

EXPORTED = Path(__file__).parents[1] / "exported"


def pairs_of(artifacts: list[Artifact], *names: str) -> set[tuple[str, str]]:
    pairs, _ = pair_up(artifacts, names)
    return {(pair.artifact.name, pair.target.name) for pair in pairs}


def test_without_files_all_exported_files_are_loaded(exports: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exports, tmp_path / "copy"))
    shutil.copy(exports / "lenet_int8.onnx", folder / "stray.onnx")  # without a manifest
    lines: list[str] = []
    artifacts = load_artifacts([], folder, lines.append)
    assert [artifact.name for artifact in artifacts] == sorted(
        path.name
        for path in exports.iterdir()
        if path.suffix in (".keras", ".tflite", ".onnx", ".wasm", ".param")
    )
    # A C file is a program, and runs only if its path is given.
    programs = sorted(exports.glob("*.c"))
    (line,) = lines
    assert line.startswith(f"Left out {programs[0].name}")
    assert line.endswith(": a C file is a program; give its path to run it")
    for path in programs:
        assert load_artifacts([path], folder)[0].format == "native"
    (artifact,) = load_artifacts([folder / "lenet_int8.onnx"], Path("nowhere"))
    assert artifact.name == "lenet_int8.onnx"


def test_a_file_is_not_given_to_a_runtime_that_is_too_old(tmp_path: Path) -> None:
    """The converter writes into each .tflite file which release opens it."""
    old, target = EXPORTED / "lenet_dynamic.tflite", get_target("tflite-runtime-cpu")
    assert load_artifact(old).oldest_runtime == "2.3.0"
    assert refusal(load_artifact(old), target, "2.14.0") is None
    new = tmp_path / "new.tflite"
    new.write_bytes(old.read_bytes().replace(b"2.3.0\0\0", b"2.99.0\0"))
    (artifact,) = load_artifacts([new], Path())
    assert artifact.oldest_runtime == "2.99.0"
    assert "needs TensorFlow Lite 2.99.0, and tflite-runtime 2.14.0 is older; run it on" in (
        refusal(artifact, target, "2.14.0") or ""
    )
    assert refusal(artifact, get_target("litert-xnnpack")) is None  # has numbers of its own
    if is_installed(target):
        pairs, skipped = pair_up([load_artifact(old), artifact], ["tflite-runtime"])
        assert [pair.artifact.name for pair in pairs] == [old.name]
        assert [(skip.target, skip.artifact) for skip in skipped] == [(target.name, new.name)]


def test_the_release_among_wheels() -> None:
    wheels = WheelSet(("tflite",), (Path("tflite_runtime-2.14.0-cp311-cp311-linux_armv7l.whl"),))
    assert wheels.release("tflite-runtime") == "2.14.0"
    assert wheels.release("litert") is None


def test_a_folder_without_exported_files_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ModelFileError, match="lenet-edge export"):
            load_artifacts([], folder)


def test_without_names_all_default_targets_are_selected(
    exported: Callable[[str], Artifact],
) -> None:
    artifacts = [exported("lenet_int8.tflite"), exported("lenet_int8.onnx")]
    pairs = pairs_of(artifacts)
    assert pairs == {
        (artifact.name, target.name)
        for artifact in artifacts
        for target in all_targets()
        if artifact.format in target.formats
        and target.preference < NOT_BY_DEFAULT
        and absence(target) is None
    }
    assert not {"null", "litert-reference"} & {target for _, target in pairs}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("litert-reference", {"litert-reference"}),  # not a default target, but named
        ("null", {"null"}),
        ("litert", {"litert-xnnpack"}),  # a runtime means its default targets that can be present
        ("tflite", {"litert-xnnpack"}),  # a format means the best target that works
        ("openvino", {"openvino-cpu"}),
        ("openvino-gpu", {"openvino-gpu"}),
    ],
)
def test_a_name_selects_targets(
    exported: Callable[[str], Artifact], name: str, expected: set[str]
) -> None:
    assert {target for _, target in pairs_of([exported("lenet_int8.tflite")], name)} == expected


def test_a_target_named_twice_runs_once(exported: Callable[[str], Artifact]) -> None:
    pairs, _ = pair_up([exported("lenet_int8.tflite")], ["litert", "tflite", "litert-xnnpack"])
    assert [pair.target.name for pair in pairs] == ["litert-xnnpack"]


def test_a_target_of_another_format_is_an_error(exported: Callable[[str], Artifact]) -> None:
    with pytest.raises(TargetError, match="none of the files runs on onnxruntime-cpu"):
        pair_up([exported("lenet_int8.tflite")], ["onnxruntime-cpu"])


def test_names_are_resolved_or_a_similar_name_is_suggested() -> None:
    assert find_targets("tflite-runtime") == (get_target("tflite-runtime-cpu"),)
    assert {"litert-xnnpack", "openvino-cpu"} <= {target.name for target in find_targets("tflite")}
    with pytest.raises(TargetError, match="did you mean onnxruntime"):
        find_targets("onxruntime")
    with pytest.raises(TargetError, match="lenet-edge targets"):
        find_targets("qqqq")
    with pytest.raises(TargetError, match="unknown target 'litert'"):
        get_target("litert")


def test_the_best_target_is_the_first_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the first choice is broken in the workers, the second is selected."""
    assert best_target("tflite").name == "litert-xnnpack"
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text("raise ImportError('broken')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[1]}")
    has_tflite_runtime = is_installed(get_target("tflite-runtime-cpu"))
    second = "tflite-runtime-cpu" if has_tflite_runtime else "openvino-cpu"
    assert best_target("tflite").name == second


def test_target_names_are_unique() -> None:
    targets = all_targets()
    assert len({target.name for target in targets}) == len(targets)
    assert list(targets) == sorted(targets, key=lambda target: (target.preference, target.name))
    for target in targets:
        assert target.name.startswith(target.runtime)
        assert target.formats
