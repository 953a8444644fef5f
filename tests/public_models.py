"""Models in the structure of public ones, with random weights.

Each stands for a file of a popular package: face detection, face landmarks, OCR, a wake word, voice
activity, file types, sentences, tables. They have several inputs and outputs of many types, free
dimensions, states, branches and loops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Shape = tuple[int, ...]


def _onnx(text: str, weights: dict[str, Shape], opset: int = 17) -> bytes:
    """Return an ONNX file of a graph in ONNX's text form, and of random weights by name."""
    import onnx

    head = f'<ir_version: 8, opset_import: ["": {opset}, "ai.onnx.ml": 3]>'
    model = onnx.parser.parse_model(f"{head}\n{text}")
    generator = np.random.default_rng(0)
    for name, shape in weights.items():
        values = generator.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    content: bytes = model.SerializeToString()
    return content


def face_detector() -> bytes:
    """Return a detector of two outputs, like BlazeFace: boxes and scores of all anchors."""
    return _onnx(
        """face_detector (float[1,3,64,64] image)
            => (float[1,512,16] boxes, float[1,512,1] scores) {
          first = Conv <strides = [2,2], pads = [1,1,1,1]> (image, w1)
          features = Relu (first)
          second = Conv <strides = [2,2], pads = [1,1,1,1]> (features, w2)
          deep = Relu (second)
          b = Conv (deep, wb)
          bt = Transpose <perm = [0,2,3,1]> (b)
          box_shape = Constant <value = int64[3] {1,512,16}> ()
          boxes = Reshape (bt, box_shape)
          s = Conv (deep, ws)
          st = Transpose <perm = [0,2,3,1]> (s)
          score_shape = Constant <value = int64[3] {1,512,1}> ()
          raw = Reshape (st, score_shape)
          scores = Sigmoid (raw)
        }""",
        {"w1": (16, 3, 3, 3), "w2": (32, 16, 3, 3), "wb": (32, 32, 1, 1), "ws": (2, 32, 1, 1)},
    )


def suppressed_detector() -> bytes:
    """Return a detector of uint8 images: the number of its boxes depends on the image."""
    return _onnx(
        """suppressed_detector (uint8[1,32,32,3] image)
            => (int64[M,3] selected, float[1,64,4] boxes) {
          values = Cast <to = 1> (image)
          nchw = Transpose <perm = [0,3,1,2]> (values)
          features = Conv <strides = [4,4]> (nchw, w1)
          b = Conv (features, wb)
          box_shape = Constant <value = int64[3] {1,64,4}> ()
          boxes = Reshape (b, box_shape)
          s = Conv (features, ws)
          score_shape = Constant <value = int64[3] {1,1,64}> ()
          scores = Reshape (s, score_shape)
          most = Constant <value = int64 {10}> ()
          overlap = Constant <value = float {0.5}> ()
          selected = NonMaxSuppression (boxes, scores, most, overlap)
        }""",
        {"w1": (8, 3, 4, 4), "wb": (4, 8, 1, 1), "ws": (1, 8, 1, 1)},
    )


def text_detector() -> bytes:
    """Return the first part of an OCR: a map for images of any height and width."""
    return _onnx(
        """text_detector (float[N,3,H,W] pixels) => (float[N,1,H,W] map) {
          down = Conv <strides = [2,2], pads = [1,1,1,1]> (pixels, w1)
          features = Relu (down)
          up = ConvTranspose <strides = [2,2]> (features, w2)
          map = Sigmoid (up)
        }""",
        {"w1": (8, 3, 3, 3), "w2": (8, 1, 2, 2)},
    )


def text_recognizer() -> bytes:
    """Return the second part of an OCR: characters along lines of any width."""
    return _onnx(
        """text_recognizer (float[N,3,48,W] line) => (float[N,T,97] characters) {
          down = Conv <strides = [4,4]> (line, w1)
          features = Relu (down)
          row = AveragePool <kernel_shape = [12,1]> (features)
          axis = Constant <value = int64[1] {2}> ()
          steps = Squeeze (row, axis)
          sequence = Transpose <perm = [0,2,1]> (steps)
          sums = MatMul (sequence, w2)
          characters = Softmax <axis = 2> (sums)
        }""",
        {"w1": (16, 3, 4, 4), "w2": (16, 97)},
    )


def voice_activity() -> bytes:
    """Return a recurrent model: sound and a state in, another state out, a branch on the rate."""
    return _onnx(
        """voice_activity (float[N,512] sound, float[1,N,32] state, int64 sr)
            => (float[N,1] speech, float[1,N,32] stateN) {
          slow_rate = Constant <value = int64 {8000}> ()
          is_slow = Equal (sr, slow_rate)
          scaled = If (is_slow) <
            then_branch = slow () => (float[N,512] s) { two = Constant <value = float {2}> ()
              s = Mul (sound, two) },
            else_branch = fast () => (float[N,512] f) { f = Identity (sound) }
          >
          frame_shape = Constant <value = int64[3] {0,8,64}> ()
          frames = Reshape (scaled, frame_shape)
          sequence = Transpose <perm = [1,0,2]> (frames)
          all, last, cell = LSTM <hidden_size = 32> (sequence, w, r, , , state, state)
          stateN = Identity (last)
          axis = Constant <value = int64[1] {0}> ()
          hidden = Squeeze (last, axis)
          sums = MatMul (hidden, w2)
          speech = Sigmoid (sums)
        }""",
        {"w": (1, 128, 64), "r": (1, 128, 32), "w2": (32, 1)},
    )


def file_type() -> bytes:
    """Return a model of bytes as int32 numbers, like Magika."""
    return _onnx(
        """file_type (int32[N,256] bytes) => (float[N,20] types) {
          steps = Gather (embedding, bytes)
          mean = ReduceMean <axes = [1], keepdims = 0> (steps)
          sums = MatMul (mean, w)
          types = Softmax <axis = 1> (sums)
        }""",
        {"embedding": (257, 16), "w": (16, 20)},
    )


def sentence() -> bytes:
    """Return a model of two int64 inputs, tokens and their mask, and two outputs."""
    return _onnx(
        """sentence (int64[N,L] input_ids, int64[N,L] attention_mask)
            => (float[N,L,16] tokens, float[N,16] pooled) {
          tokens = Gather (embedding, input_ids)
          mask = Cast <to = 1> (attention_mask)
          axis = Constant <value = int64[1] {2}> ()
          column = Unsqueeze (mask, axis)
          kept = Mul (tokens, column)
          pooled = ReduceMean <axes = [1], keepdims = 0> (kept)
        }""",
        {"embedding": (1000, 16)},
    )


def table() -> bytes:
    """Return a model of two float64 inputs of different rank, as of scikit-learn."""
    return _onnx(
        """table (double[N,4] measures, double[N] age) => (double[N,1] price, bool[N,1] is_dear) {
          axis = Constant <value = int64[1] {1}> ()
          column = Unsqueeze (age, axis)
          all = Concat <axis = 1> (measures, column)
          price = ReduceSum <keepdims = 1> (all, axis)
          limit = Constant <value = double {2}> ()
          is_dear = Greater (price, limit)
        }""",
        {},
    )


def picky() -> bytes:
    """Return a model whose indexes begin at 5, so that no random index fits."""
    return _onnx(
        """picky (int64[N,4] index) => (float[N,4,8] rows) {
          first = Constant <value = int64 {5}> ()
          offset = Sub (first, index)
          rows = Gather (embedding, offset)
        }""",
        {"embedding": (2, 8)},
    )


def words() -> bytes:
    """Return a model of strings."""
    return _onnx(
        """words (string[N,1] word) => (int64[N,1] number) {
          number = ai.onnx.ml.LabelEncoder
            <keys_strings = ["yes", "no"], values_int64s = [1, 2]> (word)
        }""",
        {},
    )


def _tflite(function: Any, *signature: Any, owner: Any = None) -> bytes:
    import tensorflow as tf

    concrete = tf.function(function, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner)
    converter.experimental_enable_resource_variables = owner is not None
    content: bytes = converter.convert()
    return content


def face_landmarks() -> bytes:
    """Return a .tflite model of two outputs: points and the presence of a face."""
    import tensorflow as tf

    generator = tf.random.Generator.from_seed(0)
    kernel = generator.normal((3, 3, 3, 8))
    points, presence = generator.normal((8, 30)), generator.normal((8, 1))

    def infer(image: Any) -> Any:
        features = tf.nn.relu(tf.nn.conv2d(image, kernel, 2, "SAME"))
        mean = tf.reduce_mean(features, (1, 2))
        return {"points": mean @ points, "presence": tf.sigmoid(mean @ presence)}

    return _tflite(infer, tf.TensorSpec((1, 32, 32, 3), name="image"))


def wake_word() -> bytes:
    """Return a streaming .tflite model: each call takes one frame, and keeps the last ones."""
    import tensorflow as tf

    owner = tf.Module()
    owner.frames = tf.Variable(tf.zeros((1, 6, 40)))
    kernel = tf.random.Generator.from_seed(0).normal((240, 1))

    def infer(frame: Any) -> Any:
        owner.frames.assign(tf.concat([owner.frames[:, 1:], frame], 1))
        return tf.sigmoid(tf.reshape(owner.frames, (1, 240)) @ kernel)

    return _tflite(infer, tf.TensorSpec((1, 1, 40), name="frame"), owner=owner)


def counting_loop() -> bytes:
    """Return a .tflite model with a loop whose length depends on an int32 input."""
    import tensorflow as tf

    def infer(values: Any, count: Any) -> Any:
        def step(i: Any, sums: Any) -> Any:
            return i + 1, tf.tanh(sums + values)

        limit = tf.minimum(count[0], 3)
        return tf.while_loop(lambda i, sums: i < limit, step, (0, values))[1]

    return _tflite(
        infer, tf.TensorSpec((1, 16), name="values"), tf.TensorSpec((1,), tf.int32, name="count")
    )


@dataclass(frozen=True)
class PublicModel:
    """One model.

    Attributes:
        suffix: the suffix of its file.
        build: returns the file.
        inputs: the names of its inputs.
        outputs: the names of its outputs.
        shapes: the values of --input-shape that settle its free dimensions.
    """

    suffix: str
    build: Callable[[], bytes]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.build.__name__

    def save(self, folder: Path) -> Path:
        """Write the file, and return its path."""
        path = folder / f"{self}{self.suffix}"
        path.write_bytes(self.build())
        return path


MODELS = (
    PublicModel(".onnx", face_detector, ("image",), ("boxes", "scores")),
    PublicModel(".onnx", suppressed_detector, ("image",), ("selected", "boxes")),
    PublicModel(".onnx", text_detector, ("pixels",), ("map",), ("pixels=1,3,64,96",)),
    PublicModel(".onnx", text_recognizer, ("line",), ("characters",), ("line=1,3,48,160",)),
    PublicModel(
        ".onnx",
        voice_activity,
        ("sound", "state", "sr"),
        ("speech", "stateN"),
        ("state=1,1,32",),
    ),
    PublicModel(".onnx", file_type, ("bytes",), ("types",)),
    PublicModel(
        ".onnx",
        sentence,
        ("input_ids", "attention_mask"),
        ("tokens", "pooled"),
        ("input_ids=1,12", "attention_mask=1,12"),
    ),
    PublicModel(".onnx", table, ("measures", "age"), ("price", "is_dear")),
    PublicModel(".tflite", face_landmarks, ("image",), ("points", "presence")),
    PublicModel(".tflite", wake_word, ("frame",), ("Identity",)),
    PublicModel(".tflite", counting_loop, ("values", "count"), ("Identity",)),
)
WORDS = PublicModel(".onnx", words, ("word",), ("number",))
PICKY = PublicModel(".onnx", picky, ("index",), ("rows",))
