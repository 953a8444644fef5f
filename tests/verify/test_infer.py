"""The answers to all images are the same in any batch, the last and partial one too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from lenet_edge.artifact import Artifact
from lenet_edge.data.dataset import Dataset
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair
from lenet_edge.verify.parity import compare
from lenet_edge.verify.truth import answers

COUNT = 1003  # no multiple of 7 or 1000


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("lenet_float32.tflite", "litert-xnnpack"),
        ("lenet_int8.tflite", "litert-xnnpack"),
        ("lenet_int8.tflite", "tflite-runtime-cpu"),
        ("lenet_float32.onnx", "onnxruntime-cpu"),
        ("lenet_int8.onnx", "onnxruntime-cpu"),
        ("lenet.keras", "tensorflow-function"),
    ],
)
def test_any_batch_size_makes_the_same_report(
    exported: Callable[[str], Artifact], test_part: Dataset, name: str, target: str
) -> None:
    reports = []
    reference = np.eye(10, dtype=np.float32)[test_part.labels[:COUNT]]  # anything to compare with
    for batch_size in (1, 7, 1000, 2000):
        artifact = dataclasses.replace(exported(name), batch_size=batch_size)
        pair = Pair(artifact, get_target(target))
        logits, _ = answers(pair, test_part.images[:COUNT], 1)
        assert logits.shape == (COUNT, 10)
        reports.append(compare(reference, logits, test_part.labels[:COUNT]))
    for report in reports[1:]:
        for field in (
            "candidate_accuracy",
            "top1_agreement",
            "mcnemar_p",
            "per_class",
            "confusion",
        ):
            assert report[field] == reports[0][field]
        assert [(f.index, f.now) for f in report["flips"]] == [
            (f.index, f.now) for f in reports[0]["flips"]
        ]
        assert report["max_abs_error"] == pytest.approx(reports[0]["max_abs_error"], abs=1e-4)
