"""Which files, on which targets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import ModelFileError, TargetError
from lenet_edge.runtimes import NOT_BY_DEFAULT, absence, all_targets, find_targets, get_target
from lenet_edge.selection import best_target, load_artifacts, pair_up


def pairs_of(artifacts: list[Artifact], *wanted: str) -> set[tuple[str, str]]:
    pairs, _ = pair_up(artifacts, wanted)
    return {(pair.artifact.name, pair.target.name) for pair in pairs}


def test_no_files_means_every_exported_file(exports: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exports, tmp_path / "copy"))
    shutil.copy(exports / "lenet_int8.onnx", folder / "stray.onnx")  # with no manifest
    said: list[str] = []
    found = load_artifacts([], folder, said.append)
    assert [artifact.name for artifact in found] == sorted(
        path.name
        for path in exports.iterdir()
        if path.suffix in (".keras", ".tflite", ".onnx", ".wasm")
    )
    # A C file is a program: it takes more than lying there to be run.
    programs = sorted(exports.glob("*.c"))
    assert len(said) == len(programs) > 0
    for line, path in zip(said, programs, strict=True):
        assert line.startswith(f"Left out {folder / path.name}: a C file is a program")
        assert load_artifacts([path], folder)[0].format == "native"
    (one,) = load_artifacts([folder / "lenet_int8.onnx"], Path("nowhere"))
    assert one.name == "lenet_int8.onnx"


def test_no_exported_files_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ModelFileError, match="lenet-edge export"):
            load_artifacts([], folder)


def test_no_names_means_every_usual_target(exported: Callable[[str], Artifact]) -> None:
    artifacts = [exported("lenet_int8.tflite"), exported("lenet_int8.onnx")]
    found = pairs_of(artifacts)
    assert found == {
        (artifact.name, target.name)
        for artifact in artifacts
        for target in all_targets()
        if artifact.format in target.formats
        and target.preference < NOT_BY_DEFAULT
        and absence(target) is None
    }
    assert not {"null", "litert-reference"} & {target for _, target in found}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("litert-reference", {"litert-reference"}),  # named, it runs
        ("null", {"null"}),
        ("litert", {"litert-xnnpack"}),  # a runtime is its usual targets, if they can be here
        ("tflite", {"litert-xnnpack"}),  # a format is the best that works
        ("openvino", {"openvino-cpu"}),
        ("openvino-gpu", {"openvino-gpu"}),
    ],
)
def test_what_a_name_stands_for(
    exported: Callable[[str], Artifact], name: str, expected: set[str]
) -> None:
    assert {target for _, target in pairs_of([exported("lenet_int8.tflite")], name)} == expected


def test_a_target_named_twice_runs_once(exported: Callable[[str], Artifact]) -> None:
    pairs, _ = pair_up([exported("lenet_int8.tflite")], ["litert", "tflite", "litert-xnnpack"])
    assert [pair.target.name for pair in pairs] == ["litert-xnnpack"]


def test_nothing_fits(exported: Callable[[str], Artifact]) -> None:
    with pytest.raises(TargetError, match="none of the files runs on onnxruntime-cpu"):
        pair_up([exported("lenet_int8.tflite")], ["onnxruntime-cpu"])


def test_names_are_found_and_suggested() -> None:
    assert find_targets("tflite-runtime") == (get_target("tflite-runtime-cpu"),)
    assert {"litert-xnnpack", "openvino-cpu"} <= {target.name for target in find_targets("tflite")}
    with pytest.raises(TargetError, match="did you mean onnxruntime"):
        find_targets("onxruntime")
    with pytest.raises(TargetError, match="lenet-edge targets"):
        find_targets("qqqq")
    with pytest.raises(TargetError, match="unknown target 'litert'"):
        get_target("litert")


def test_the_best_target_is_one_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first choice broken in the workers, the second is taken."""
    assert best_target("tflite").name == "litert-xnnpack"
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text("raise ImportError('broken')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[1]}")
    assert best_target("tflite").name == "tflite-runtime-cpu"


def test_targets_have_names_of_their_own() -> None:
    targets = all_targets()
    assert len({target.name for target in targets}) == len(targets)
    assert list(targets) == sorted(targets, key=lambda target: (target.preference, target.name))
    for target in targets:
        assert target.name.startswith(target.runtime)
        assert target.formats
