"""The float model to export: a .keras or .onnx file with its artifact."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import (
    Artifact,
    TensorSpec,
    describe_file,
    is_described,
    load_artifact,
)
from lenet_edge.artifacts.declared import declared_preprocessing
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.artifacts.head import Head, num_classes
from lenet_edge.artifacts.preprocessing import PIXELS, Preprocessing
from lenet_edge.artifacts.stated_input import StatedInput
from lenet_edge.artifacts.trained_ranges import TrainedRanges, read_ranges
from lenet_edge.classifier_io import to_model_input
from lenet_edge.errors import ModelFileError
from lenet_edge.export.checkpoint import KerasModel, keras_artifact, split_rescaling
from lenet_edge.export.onnx_model import OnnxInput, OnnxModel
from lenet_edge.foreign_file import read_tensors
from lenet_edge.support.files import sha256_of
from lenet_edge.support.printable import make_printable
from lenet_edge.target import Images, Logits

_OPEN_SECONDS = 120


class FloatModel(Protocol):
    """A model as the exporter uses it.

    Shapes have the channels of images last. None is a free batch.
    """

    @property
    def inputs(self) -> tuple[OnnxInput, ...]:
        """The inputs."""

    @property
    def is_single(self) -> bool:
        """True if the model has one input and one output."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of the first input."""

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of the first output."""

    @property
    def batch_size(self) -> int | None:
        """The batch size that the model fixes; None if it is free."""

    @property
    def for_converters(self) -> Any:
        """The `ConversionRequest.model`."""

    def predict(self, values: Images) -> Logits:
        """Return the outputs for input values."""

    def layers_alone(self) -> Iterator[tuple[str, str, Any]]:
        """Yield each layer's name and class, and a model of that layer alone, for converters."""


@dataclass(frozen=True)
class ExportSource:
    """The model to export, its artifact, and the ranges that it was trained with.

    Attributes:
        artifact: the artifact of its file.
        model: the model.
        ranges: the trained ranges; None if it has none.
        conversions: the `ConversionRequest.shared` of the model.
    """

    artifact: Artifact
    model: FloatModel
    ranges: TrainedRanges | None = None
    conversions: dict[Hashable, Any] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one input, channels last."""
        return tuple(size or 0 for size in self.model.input_shape[1:])

    @property
    def num_classes(self) -> int | None:
        """The number of classes; None if the outputs are no classes."""
        if not self.model.is_single:
            return None
        head, shape = self.artifact.stated_head, self.model.output_shape
        if head is Head.VALUES or None in shape[1:]:
            return None
        outputs = math.prod(size or 0 for size in shape[1:])
        return num_classes(head, outputs) if head else outputs

    @property
    def channels_last(self) -> Artifact:
        """The artifact with a single input, whose channels are last."""
        spec = self.artifact.inputs[0]
        image = dataclasses.replace(spec, shape=self.model.input_shape)
        return dataclasses.replace(self.artifact, inputs=(image,))

    def predict(self, images: npt.NDArray[Any], rule: Preprocessing | None = None) -> Logits:
        """Return the model's outputs for images, prepared by its own rule or by another."""
        artifact = self.channels_last
        if rule is not None:
            artifact = dataclasses.replace(artifact, preprocessing=rule)
        return self.model.predict(to_model_input(images, artifact))

    def without_rescaling(self) -> ExportSource:
        """Return the source of a Keras model with its first Rescaling layer as preprocessing.

        A model that starts with another layer stays as it is.
        """
        rule = self.artifact.preprocessing
        model, layer = split_rescaling(self.model.for_converters)
        if layer is None:
            return self
        scale = np.ravel(np.multiply(rule.scale, layer.scale)).tolist()
        offset = np.ravel(np.multiply(rule.offset, layer.scale) + layer.offset).tolist()
        rule = dataclasses.replace(rule, scale=scale, offset=offset)
        return ExportSource(self.artifact, KerasModel(model), self.ranges).change(
            preprocessing=rule
        )

    def change(self, **facts: Any) -> ExportSource:
        """Return the source with other facts in its artifact."""
        artifact = dataclasses.replace(self.artifact, **facts)
        return dataclasses.replace(self, artifact=artifact)


def load_source(path: Path, stated: StatedInput) -> ExportSource:
    """Load a .keras or .onnx file, and describe it with the facts that the user states.

    Raises:
        ModelFileError: the file cannot be loaded, or its model cannot be exported.
    """
    format = check_format(path)
    sha256 = sha256_of(path)
    if format == "onnx":
        artifact = _onnx_artifact(path)  # first, because another process opens the file
        model: FloatModel = OnnxModel(path)
    else:
        model = read_float_model(path)
        artifact = keras_artifact(path, model.for_converters)
    if artifact.sha256 != sha256:
        raise ModelFileError(f"{path} changed while it was read; export it again")
    ranges = None if format == "onnx" else read_ranges(path)
    return ExportSource(stated.describe(artifact), model, ranges)


def read_float_model(path: Path) -> FloatModel:
    """Load the model of a .keras or .onnx file.

    Raises:
        ModelFileError: the file cannot be loaded, or its model cannot be exported.
    """
    return OnnxModel(path) if check_format(path) == "onnx" else KerasModel.load(path)


def _onnx_artifact(path: Path) -> Artifact:
    """Return the artifact of an .onnx file; without a description, with what it declares.

    A process of its own opens the file first, because a damaged file can crash ONNX Runtime.
    """
    tensors = worker.run(read_tensors.bind(path, "onnxruntime-cpu").within(_OPEN_SECONDS))
    if is_described(path):
        return load_artifact(path)
    inputs, outputs = (tuple(TensorSpec(**s) for s in tensors[side]) for side in ("in", "out"))
    declared, labels = declared_preprocessing(path, "onnx", inputs, outputs)
    return describe_file(
        path,
        precision="float32",
        batch_size=inputs[0].shape[0],
        inputs=inputs,
        outputs=outputs,
        parent_sha256=None,
        converter=make_printable(OnnxModel.read_producer(path))[:100] or "unknown",
        calibration=None,
        labels=labels,
        preprocessing=declared or dataclasses.replace(PIXELS, origin="assumed"),
    )
