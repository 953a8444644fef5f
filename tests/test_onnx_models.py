"""The committed ONNX files of PyTorch are what the tests take them for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.onnx_models import FOLDER, LENET, MODELS, OnnxModel, masks

PAIRS = [pytest.param(model, path, id=path.stem) for model in MODELS for path in model.paths]


@pytest.mark.parametrize(("model", "path"), PAIRS)
def test_a_file_is_of_the_exporter_that_its_name_says_and_predicts_digits(
    model: OnnxModel, path: Path
) -> None:
    file = onnx.load(path)
    assert file.producer_name == "pytorch"
    assert path.stem.removesuffix("_unfolded").endswith(str(file.opset_import[0].version))
    if "_script" in path.name:  # the older exporter writes the IR version of its time
        assert file.ir_version < 10
    else:
        assert file.ir_version >= 10
    images, labels = model.data("test", 500)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    first, *_ = session.run(None, {"image": model.values(images)})
    if first.ndim == 2:
        assert np.mean(first.argmax(1) == labels) > 0.75
    else:
        expected = masks(LENET.data("test", 500)[0]) > 0
        assert np.mean((first > 0) == expected) > 0.98


def test_every_file_is_listed_and_the_folder_is_small() -> None:
    files = {path.name: path.stat().st_size for path in FOLDER.glob("*.onnx")}
    assert set(files) == {file for model in MODELS for file in model.files}
    assert sum(files.values()) < 3_000_000
