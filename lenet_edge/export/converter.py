"""Interface of the converters: the modules that make files of one format from a checkpoint.

The rows of `lenet_edge.formats` name the modules and functions that these types describe.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.trained_ranges import TrainedRanges
from lenet_edge.target import Images

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int4", "int16x8")
CALIBRATED_PRECISIONS = ("int8", "int4", "int16x8")


@dataclass(frozen=True)
class ConversionRequest:
    """The model to convert, and the choices for it.

    Attributes:
        model: the Keras model, or an `onnx_model.OnnxModel`.
        precision: one of the converter's `PRECISIONS`.
        calibration: images that set the ranges of int8 and int16 activations: float32 of shape
            (N, height, width, channels), scaled as in training. A tuple of arrays, channels last,
            if the model has several inputs.
        batch_size: None leaves the batch free.
        cpu: the CPU that will run int8 ONNX files: "x86", "arm", or "auto" for this machine's.
        name: the checkpoint's file name without its suffix. Formats made from C name their
            function after it.
        ranges: the trained ranges for int8, instead of the calibration images; None for none.
        shared: results that the requests of one export share, see `once`.
    """

    model: Any
    precision: str
    calibration: Images | tuple[Images, ...]
    batch_size: int | None = None
    cpu: str = "auto"
    name: str = "lenet"
    ranges: TrainedRanges | None = None
    shared: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, step: Hashable, compute: Callable[[], Any]) -> Any:
        """Return the result of a step, computed by the first request of an export that needs it.

        Args:
            step: the step and all its parameters, apart from the model and its calibration.
            compute: compute the result.
        """
        if step not in self.shared:
            self.shared[step] = compute()
        return self.shared[step]

    @property
    def arrays(self) -> tuple[Images, ...]:
        """The calibration images of each input."""
        images = self.calibration
        return images if isinstance(images, tuple) else (images,)

    def samples(self, batch_size: int = 1) -> Iterator[list[Images]]:
        """Yield the calibration images in whole batches, an array for each input."""
        for start in range(0, len(self.arrays[0]) - batch_size + 1, batch_size):
            yield [images[start : start + batch_size] for images in self.arrays]


@dataclass(frozen=True)
class Converted:
    """A converted model.

    Attributes:
        content: the bytes of the file, without the contract.
        settings: choices for the machine that will run the file, for the manifest.
        tensors: the inputs and the outputs. None: `export` opens the file and reads them.
        converter: the name and version of the converting program, for the manifest, if it is not
            `Converter.CONVERTER`.
        parts: the bytes of the other files of the format, by their suffix.
    """

    content: bytes
    settings: tuple[str, ...] = ()
    tensors: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]] | None = None
    converter: str = ""
    parts: dict[str, bytes] = field(default_factory=dict)


class Converter(Protocol):
    """A module of this package that makes files of one format."""

    @property
    def CONVERTER(self) -> str:
        """The name and version of the converting program, for the manifest."""

    @property
    def PRECISIONS(self) -> tuple[str, ...]:
        """The precisions that the format supports."""

    def convert(self, request: ConversionRequest) -> Converted:
        """Convert a classifier.

        Raises:
            ModelFileError: the model has a layer that the format does not support. `export` turns
                any other exception into one that names the layer.
        """


# Write a contract (a JSON text) into the bytes of a file, or replace the one that it has.
ContractWriter = Callable[[bytes, str], bytes]
# Write a file beside an artifact, such as a C header.
CompanionWriter = Callable[[Artifact], None]
