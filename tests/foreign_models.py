"""Classifiers as other people make them, built from nothing: their files and their images.

Each model tells grey levels apart, in closed form. A level that is fed on another scale than the
model's is answered wrongly and with confidence. So a test sees at once whether a command feeds what
the model takes. In RGB images only the red channel counts, and blue holds the opposite level.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.preprocessing import (
    IMAGENET,
    PIXELS,
    SIGNED,
    UNIT,
    Preprocessing,
    apply,
    from_mean_std,
)

SIDE = 8
LEVELS = (40, 100, 160, 220)
THRESHOLDS = (70, 130, 190)
FILES = ("keras", "tflite-float32", "tflite-int8", "tflite-uint8", "onnx-nchw", "onnx-nhwc")
RULES = {"pixels": PIXELS, "unit": UNIT, "signed": SIGNED, "mean-std": IMAGENET}
HEADS = ("softmax", "logits", "sigmoid", "sigmoids")
LAYOUTS = ("gray", "rgb", "flat")


@dataclass(frozen=True)
class ForeignModel:
    """One kind of classifier.

    Attributes:
        file: one of `FILES`.
        rule_name: a key of `RULES`, the input values that the model was made for.
        head: one of `HEADS`. "sigmoid" has one output, "is it bright?". "sigmoids" has three
            independent outputs, "is it brighter than this?".
        layout: one of `LAYOUTS`; "flat" takes vectors of 64 values.
    """

    file: str
    rule_name: str
    head: str
    layout: str

    def __str__(self) -> str:
        return f"{self.file}-{self.rule_name}-{self.head}-{self.layout}"

    @property
    def suffix(self) -> str:
        """The suffix of the file's name."""
        return f".{self.file.partition('-')[0]}"

    @property
    def rule(self) -> Preprocessing:
        """The input values of the model; three channels only for RGB."""
        if self.rule_name == "mean-std" and self.layout != "rgb":
            return from_mean_std(0.1307, 0.3081)
        return RULES[self.rule_name]

    @property
    def channels(self) -> int:
        """The number of channels of an image."""
        return 3 if self.layout == "rgb" else 1

    def images(self, count: int = 64) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Return pixels of shape (N, 8, 8, channels) and the numbers of their classes."""
        generator = np.random.default_rng(0)
        levels = np.resize(np.arange(len(LEVELS)), count)
        shape = (count, SIDE, SIDE, self.channels)
        noise = generator.integers(-20, 21, shape)
        pixels = np.array(LEVELS)[levels].reshape(-1, 1, 1, 1) + noise
        if self.channels == 3:
            pixels[..., 1] = 128
            pixels[..., 2] = 255 - pixels[..., 0]
        labels = levels if self.head != "sigmoid" else levels // 2
        return pixels.astype(np.uint8), labels.astype(np.int32)

    def options(self) -> list[str]:
        """Return the options that say what the model takes."""
        if self.rule_name == "mean-std":
            mean, std = self.rule.mean_std
            return [
                "--mean", ",".join(f"{value:.6g}" for value in mean),
                "--std", ",".join(f"{value:.6g}" for value in std),
            ]  # fmt: skip
        scale, offset = {
            "pixels": ("1", "0"), "unit": ("1/255", "0"), "signed": ("1/127.5", "-1")
        }[self.rule_name]  # fmt: skip
        return ["--pixel-scale", scale, "--pixel-offset", offset]

    def weights(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the matrix (inputs, outputs) and the bias on flat channels-last input values."""
        rule = self.rule
        scale, offset = rule.scale[0], rule.offset[0]

        def value(level: float) -> float:
            return level * scale + offset

        if self.head in ("sigmoid", "sigmoids"):
            limits = THRESHOLDS if self.head == "sigmoids" else (130,)
            gain = 0.1 / abs(scale)
            slopes = np.array([gain for _ in limits])
            bias = np.array([-gain * value(limit) for limit in limits])
        else:  # the nearest mean: 2 c m - c c
            gain = 0.004 / scale**2
            slopes = np.array([2 * gain * value(level) for level in LEVELS])
            bias = np.array([-gain * value(level) ** 2 for level in LEVELS])
        pixels = np.zeros((SIDE * SIDE, self.channels, len(slopes)))
        pixels[:, 0] = slopes / (SIDE * SIDE)  # the mean of the first channel
        return pixels.reshape(-1, len(slopes)).astype(np.float32), bias.astype(np.float32)

    def save(self, folder: Path) -> Path:
        """Write the model into a folder, and return its path."""
        path = folder / f"{self}{self.suffix}"
        if self.suffix == ".onnx":
            self._save_onnx(path)
        else:
            model = self._keras()
            if self.suffix == ".keras":
                model.save(path)
            else:
                path.write_bytes(self._convert(model))
        return path

    def _keras(self) -> Any:
        import keras

        shape = (SIDE * SIDE,) if self.layout == "flat" else (SIDE, SIDE, self.channels)
        activation = {"softmax": "softmax", "logits": None}.get(self.head, "sigmoid")
        matrix, bias = self.weights()
        dense = keras.layers.Dense(len(bias), activation=activation)
        flatten = [] if self.layout == "flat" else [keras.layers.Flatten()]
        model = keras.Sequential([keras.Input(shape), *flatten, dense])
        dense.set_weights([matrix, bias])
        return model

    def _convert(self, model: Any) -> bytes:
        import tensorflow as tf

        spec = tf.TensorSpec((1, *model.input_shape[1:]))
        function = tf.function(lambda x: model(x, training=False), input_signature=[spec])
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function()]
        )
        if self.file != "tflite-float32":
            dtype = tf.int8 if self.file == "tflite-int8" else tf.uint8
            # Black and white too, so that the range of the input is that of all pixels.
            shape = (1, SIDE, SIDE, self.channels)
            ends = [np.full(shape, level, np.uint8) for level in (0, 255)]
            images = np.concatenate([self.images()[0], *ends])
            values = apply(images, self.rule).reshape(-1, *spec.shape[1:])
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([one[None]] for one in values)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = dtype
        content: bytes = converter.convert()
        return content

    def _save_onnx(self, path: Path) -> None:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        matrix, bias = self.weights()
        shape: tuple[int, ...] = (SIDE, SIDE, self.channels)
        if self.file == "onnx-nchw":
            shape = (self.channels, SIDE, SIDE)
            matrix = (
                matrix.reshape(SIDE * SIDE, self.channels, -1)
                .transpose(1, 0, 2)
                .reshape(matrix.shape)
            )
        if self.layout == "flat":
            shape = (SIDE * SIDE,)
        last = {"softmax": "Softmax", "logits": "Identity"}.get(self.head, "Sigmoid")
        nodes = [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("Gemm", ["flat", "matrix", "bias"], ["sums"]),
            helper.make_node(last, ["sums"], ["output"]),
        ]
        weights = [
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in (("matrix", matrix), ("bias", bias))
        ]
        tensors = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *sizes])
            for name, sizes in (("input", shape), ("output", (len(bias),)))
        ]
        graph = helper.make_graph(nodes, "foreign", tensors[:1], tensors[1:], weights)
        opset = helper.make_opsetid("", 17)
        onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)


def kinds() -> Iterator[ForeignModel]:
    """Yield each file with each rule; each file has every head and every layout once."""
    for (i, file), (j, rule) in itertools.product(enumerate(FILES), enumerate(RULES)):
        head, layout = HEADS[(i + j) % len(HEADS)], LAYOUTS[(i + 2 * j) % len(LAYOUTS)]
        yield ForeignModel(file, rule, head, layout)
