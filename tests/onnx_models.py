"""The ONNX files in tests/golden/onnx, which PyTorch wrote, and the images that they take.

`tests.pytorch_models` makes the files. All images are made of MNIST's digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.data import mnist

FOLDER = Path(__file__).parent / "golden" / "onnx"
Images = npt.NDArray[np.uint8]


def gray_digits(digits: Images) -> Images:
    """Return the digits as they are: (N, 28, 28, 1)."""
    return digits


def coloured_digits(digits: Images) -> Images:
    """Return digits of one colour on a ground of another: (N, 32, 32, 3)."""
    strength = np.pad(digits, ((0, 0), (2, 2), (2, 2), (0, 0))) / np.float32(255)
    generator = np.random.default_rng(0)
    ink = generator.integers(128, 256, (len(digits), 1, 1, 3)).astype(np.float32)
    ground = generator.integers(0, 96, (len(digits), 1, 1, 3)).astype(np.float32)
    return (strength * ink + (1 - strength) * ground).astype(np.uint8)


def narrow_digits(digits: Images) -> Images:
    """Return digits in the shape of a spectrogram for keyword spotting: (N, 49, 10, 1)."""
    rows, columns = np.arange(49) * 28 // 49, 4 + np.arange(10) * 20 // 10
    return digits[:, rows][:, :, columns]


def masks(digits: Images) -> npt.NDArray[np.float32]:
    """Return where `coloured_digits` has a digit: 0 or 1, (N, 1, 32, 32)."""
    padded = np.pad(digits, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return (padded > 127).astype(np.float32).transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class OnnxModel:
    """One network and its files.

    Attributes:
        name: the name of the network.
        files: the names of its files in `FOLDER`.
        images: makes the images that it takes of digits.
        mean: the mean of its preprocessing, for values of 0 to 1, one per channel.
        std: the standard deviation of its preprocessing.
        is_classifier: True if its first output are the logits of ten digits.
    """

    name: str
    files: tuple[str, ...]
    images: Callable[[Images], Images]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    is_classifier: bool = True

    @property
    def paths(self) -> list[Path]:
        """The paths of the files."""
        return [FOLDER / file for file in self.files]

    def options(self) -> list[str]:
        """Return the options that state the preprocessing."""
        mean, std = (",".join(map(str, values)) for values in (self.mean, self.std))
        return ["--mean", mean, "--std", std]

    def values(self, images: Images) -> npt.NDArray[np.float32]:
        """Return the input values for images, channels first."""
        mean, std = (np.array(values, np.float32) for values in (self.mean, self.std))
        values: npt.NDArray[np.float32] = (images / np.float32(255) - mean) / std
        # A copy: the strides of a transposed view of one channel break `view` in PyTorch.
        return values.transpose(0, 3, 1, 2).copy()

    def data(self, part: str, count: int | None = None) -> tuple[Images, npt.NDArray[np.int32]]:
        """Return images and labels of a part of MNIST, "train" or "test"."""
        dataset: Any = mnist.load("test" if part == "test" else "train")
        return self.images(dataset.images[:count]), dataset.labels[:count].astype(np.int32)


LENET = OnnxModel(
    "lenet",
    (
        "lenet_script17.onnx",
        "lenet_script20_unfolded.onnx",
        "lenet_dynamo20.onnx",
        "lenet_dynamo17_unfolded.onnx",
    ),
    gray_digits,
    mean=(0.1307,),
    std=(0.3081,),
)
RESNET = OnnxModel(
    "resnet8",
    ("resnet8_script17.onnx",),
    coloured_digits,
    mean=(0.4914, 0.4822, 0.4465),  # as usual for CIFAR-10
    std=(0.247, 0.2435, 0.2616),
)
MOBILENET = OnnxModel(
    "mobilenetv2",
    ("mobilenetv2_dynamo20.onnx",),
    coloured_digits,
    mean=(0.485, 0.456, 0.406),  # as usual for ImageNet
    std=(0.229, 0.224, 0.225),
)
DS_CNN = OnnxModel("ds_cnn", ("ds_cnn_dynamo18_unfolded.onnx",), narrow_digits)
U_NET = OnnxModel("unet", ("unet_script17.onnx",), coloured_digits, is_classifier=False)
TWO_OUTPUTS = OnnxModel(
    "unet_two_outputs", ("unet_two_outputs_dynamo20.onnx",), coloured_digits, is_classifier=False
)
MODELS = (LENET, RESNET, MOBILENET, DS_CNN, U_NET, TWO_OUTPUTS)
