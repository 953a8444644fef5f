"""The answers to all images are the same in any batch, the last and partial one too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import numpy as np
import pytest

from lenet_edge.artifact import Artifact
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.verify.infer import infer_all
from lenet_edge.verify.parity import compare


@pytest.mark.parametrize(
    ("name", "target"),
    [("lenet_int8.tflite", "litert-xnnpack"), ("lenet_float32.onnx", "onnxruntime-cpu")],
)
def test_any_batch_size_makes_the_same_report(
    exported: Callable[[str], Artifact], test_part: Dataset, name: str, target: str
) -> None:
    count = 1003  # no multiple of 7 or 500
    images = to_input(test_part.images[:count])
    logits = {}
    for batch_size in (1, 7, 500, 2000):
        with closing(open_session(exported(name), get_target(target))) as session:
            logits[batch_size] = infer_all(session, images, batch_size)
        assert logits[batch_size].shape == (count, 10)
    reference = np.roll(logits[1], 1, axis=1)  # anything to compare with
    reports = [compare(reference, found, test_part.labels[:count]) for found in logits.values()]
    for report in reports[1:]:
        assert [(f.index, f.now) for f in report["flips"]] == [
            (f.index, f.now) for f in reports[0]["flips"]
        ]
        assert report["candidate_accuracy"] == reports[0]["candidate_accuracy"]
        assert report["max_abs_error"] == pytest.approx(reports[0]["max_abs_error"], abs=1e-4)
