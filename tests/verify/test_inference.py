"""Tests that the batch size does not change the report, with a partial last batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.classifier_io import infer_all, to_model_input
from lenet_edge.data.dataset import Dataset
from lenet_edge.export import exporter, onnx
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.selection import Pair
from lenet_edge.verify.expected import infer_in_worker
from lenet_edge.verify.parity import compare_logits
from tests import needs

Images = npt.NDArray[np.uint8]
COUNT = 1003  # not a multiple of 7 or 1000

FILES = [("tflite", precision, "litert-xnnpack") for precision in exporter.PRECISIONS]
FILES += [("onnx", precision, "onnxruntime-cpu") for precision in onnx.PRECISIONS]
FILES += [("onnx", "float32", "openvino-cpu")]


@pytest.mark.parametrize(
    ("format", "precision", "target"),
    [*FILES, pytest.param("tflite", "int8", "tflite-runtime-cpu", marks=needs.tflite_runtime)],
)
def test_every_batch_size_gives_the_same_report(
    matrix: dict[tuple[str, str], Artifact],
    test_part: Dataset,
    format: str,
    precision: str,
    target: str,
) -> None:
    def infer(file: Artifact, images: Images) -> Any:
        return infer_in_worker(Pair(file, get_target(target)), images, 1)[0]

    compare_batch_sizes(matrix[format, precision], infer, test_part)


def test_every_batch_size_of_the_checkpoint_gives_the_same_report(
    exported: Callable[[str], Artifact], test_part: Dataset
) -> None:
    """In this process, because each worker would import TensorFlow."""
    import tensorflow as tf

    def infer(file: Artifact, images: Images) -> Any:
        target = get_target("tensorflow-function")
        num_threads = tf.config.threading.get_intra_op_parallelism_threads()  # it stays fixed
        with closing(open_session(file, target, num_threads)) as session:
            assert file.batch_size
            return infer_all(session, to_model_input(images, file), file.batch_size)

    compare_batch_sizes(exported("lenet.keras"), infer, test_part)


def compare_batch_sizes(
    file: Artifact, infer: Callable[[Artifact, Images], Any], test_part: Dataset
) -> None:
    reports = []
    reference = np.eye(10, dtype=np.float32)[test_part.labels[:COUNT]]  # an arbitrary reference
    for batch_size in (1, 7, 2000):
        artifact = dataclasses.replace(file, batch_size=batch_size)
        logits = infer(artifact, test_part.images[:COUNT])
        assert logits.shape == (COUNT, 10)
        reports.append(compare_logits(reference, logits, test_part.labels[:COUNT]))
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
