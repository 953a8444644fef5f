"""Operators of the int8 file of a Keras classifier, read from its layers.

Training with rounding and the writers of files walk through the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lenet_edge.model  # noqa: F401  imported first: it silences TensorFlow
from lenet_edge.artifacts.trained_ranges import INPUT
from lenet_edge.errors import ModelFileError

import tensorflow as tf  # isort: skip

# Layers without effect on inference. Dropout would disturb the short training of a network that
# has learned already.
_PASSIVE = ("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "Identity")
# Layers that change images in a training with Keras, and nothing in inference.
AUGMENTING = ("RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomContrast",
              "RandomBrightness")  # fmt: skip
_SIMPLE = {
    "MaxPooling2D": "max_pool", "AveragePooling2D": "average_pool", "ZeroPadding2D": "pad",
    "GlobalAveragePooling2D": "mean", "Flatten": "reshape", "Reshape": "reshape", "Add": "add",
}  # fmt: skip
_LINEAR = ("conv", "depthwise", "dense")
_RELUS = ("relu", "relu6")


@dataclass(eq=False)
class QuantizedStep:
    """One operator of the int8 file.

    Attributes:
        kind: "input", "conv", "depthwise", "dense", "add", "mean", "max_pool", "average_pool",
            "pad", "reshape", "relu", "relu6" or "softmax".
        name: the name of the layer, with the names of the nested models around it.
        layer: the Keras layer.
        inputs: the steps that compute its inputs.
        kernel: the variable of the weights; None for steps without weights.
        bias: the variable of the bias; None for none.
        normalization: the batch normalization that is folded into the layer; None for none.
        activation: "", or "relu" or "relu6" after the layer.
        is_pointwise: True for the second convolution of a SeparableConv2D, which has no strides.
    """

    kind: str
    name: str
    layer: Any
    inputs: list[QuantizedStep]
    kernel: Any = None
    bias: Any = None
    normalization: Any = None
    activation: str = ""
    is_pointwise: bool = False

    @property
    def has_range(self) -> bool:
        """True if the output has a range of its own."""
        return self.kind in ("input", "add", "mean", *_LINEAR, *_RELUS)

    def factor(self) -> Any:
        """Return the factor of each channel by which the batch normalization multiplies."""
        layer = self.normalization
        if layer is None:
            return tf.ones(())
        gamma = layer.gamma if layer.scale else 1.0
        return gamma * tf.math.rsqrt(layer.moving_variance + layer.epsilon)

    def folded(self) -> tuple[Any, Any]:
        """Return kernel and bias with the batch normalization; the last axis is the channel."""
        kernel = tf.convert_to_tensor(self.kernel)
        if self.kind == "depthwise":
            kernel = tf.reshape(kernel, (*kernel.shape[:2], 1, -1))
        bias = tf.zeros(kernel.shape[-1:]) if self.bias is None else self.bias
        layer = self.normalization
        if layer is not None:
            kernel *= self.factor()
            bias = (bias - layer.moving_mean) * self.factor() + (layer.beta if layer.center else 0)
        return kernel, tf.convert_to_tensor(bias)

    def linear(self, values: Any, kernel: Any) -> Any:
        """Multiply the input by a folded kernel."""
        if self.kind == "dense":
            return values @ kernel
        strides, dilations, padding = (1, 1), (1, 1), "VALID"
        if not self.is_pointwise:
            strides, dilations = self.layer.strides, self.layer.dilation_rate
            padding = self.layer.padding.upper()
        if self.kind == "conv":
            return tf.nn.conv2d(values, kernel, strides, padding, dilations=dilations)
        kernel = tf.reshape(kernel, (*kernel.shape[:2], values.shape[-1], -1))
        return tf.nn.depthwise_conv2d(
            values, kernel, (1, *strides, 1), padding, dilations=dilations
        )

    def other(self, inputs: list[Any]) -> Any:
        """Compute the output of a step without weights."""
        values, layer = inputs[0], self.layer
        if self.kind == "add":
            return inputs[0] + inputs[1]
        if self.kind == "mean":
            return tf.reduce_mean(values, (1, 2), keepdims=layer.keepdims)
        if self.kind == "reshape":
            return tf.reshape(values, (-1, *layer.output.shape[1:]))
        if self.kind == "pad":
            return tf.pad(values, ((0, 0), *layer.padding, (0, 0)))
        if self.kind in ("max_pool", "average_pool"):
            pool = tf.nn.max_pool2d if self.kind == "max_pool" else tf.nn.avg_pool2d
            return pool(values, layer.pool_size, layer.strides, layer.padding.upper())
        return values  # an input, or an activation alone

    def activate(self, values: Any) -> Any:
        """Apply the ReLU of the step, if it has one."""
        kind = self.activation or self.kind
        if kind == "relu":
            return tf.nn.relu(values)
        return tf.nn.relu6(values) if kind == "relu6" else values


def source_of(step: QuantizedStep) -> QuantizedStep:
    """Return the step whose range the output of a step has."""
    return step if step.has_range else source_of(step.inputs[0])


def read_steps(model: Any) -> list[QuantizedStep]:
    """Return the operators that the int8 file of a Keras model will have, in their order.

    Raises:
        ModelFileError: a layer is not covered; the message names it.
    """
    steps: dict[int, QuantizedStep] = {}
    (entry,), (output,) = model.inputs, model.outputs
    steps[id(entry)] = QuantizedStep("input", INPUT, None, [])
    order = [steps[id(entry)]]
    last = _read(output, "", steps, order)
    names = [step.name for step in order]
    for step in order:
        if names.count(step.name) > 1:
            raise ModelFileError(
                f"layer {step.name} is used twice, and a quantized training needs one range for"
                " each output; give each place a layer of its own"
            )
    for step in order:
        if step.kind in (*_LINEAR, "add"):
            _fold(step, order)
    order = [step for step in order if step.kind != "passive"]
    for step in order:
        step.inputs = [_skip_passive(each) for each in step.inputs]
    last = _skip_passive(last)
    for step in order:
        if step.kind == "normalization":
            raise _uncovered(step.name, step.layer, "it does not directly follow a convolution or"
                             " a dense layer without an activation")  # fmt: skip
        if step.kind == "softmax" and step is not last:
            raise _uncovered(step.name, step.layer, "it is not the last layer")
    return order


def _skip_passive(step: QuantizedStep) -> QuantizedStep:
    return _skip_passive(step.inputs[0]) if step.kind == "passive" else step


def _fold(step: QuantizedStep, order: list[QuantizedStep]) -> None:
    """Move the batch normalization and the ReLU after a step into the step."""
    pooled, at = False, step
    while True:
        readers = [other for other in order if at in other.inputs]
        if len(readers) != 1 or at is order[-1]:
            return
        at = readers[0]
        if at.kind in _RELUS and not step.activation:
            step.activation, at.kind = at.kind, "passive"
            return
        if at.kind == "normalization" and step.kernel is not None:
            if pooled or step.activation or step.normalization is not None:
                return
            step.normalization, at.kind = at.layer, "passive"
        elif at.kind == "max_pool":
            pooled = True
        elif at.kind != "passive":
            return


def _read(
    tensor: Any, prefix: str, steps: dict[int, QuantizedStep], order: list[QuantizedStep]
) -> QuantizedStep:
    """Return the step that computes a tensor, after adding it and its inputs to the steps."""
    if id(tensor) in steps:
        return steps[id(tensor)]
    layer, node, index = tensor._keras_history
    inputs = [
        _read(each, prefix, steps, order) for each in layer._inbound_nodes[node].input_tensors
    ]
    name = f"{prefix}{layer.name}"
    if getattr(layer, "layers", None) and getattr(layer, "outputs", None):  # a nested model
        inner = {id(entry): step for entry, step in zip(layer.inputs, inputs, strict=True)}
        steps[id(tensor)] = _read(layer.outputs[index], f"{name}/", inner, order)
        return steps[id(tensor)]
    for step in _steps_of(layer, name, inputs):
        order.append(step)
    steps[id(tensor)] = order[-1]
    return order[-1]


def _steps_of(layer: Any, name: str, inputs: list[QuantizedStep]) -> Iterator[QuantizedStep]:
    """Yield the steps of one Keras layer, with its activation as a step of its own."""
    kind = type(layer).__name__
    if getattr(layer, "data_format", None) == "channels_first":
        raise _uncovered(name, layer, "its channels are first")
    if kind in (*_PASSIVE, *AUGMENTING):
        step = QuantizedStep("passive", name, layer, inputs)
    elif kind == "Add" and len(inputs) != 2:
        raise _uncovered(name, layer, f"it adds {len(inputs)} tensors, not two")
    elif kind in _SIMPLE:
        step = QuantizedStep(_SIMPLE[kind], name, layer, inputs)
    elif kind == "BatchNormalization":
        if layer.axis not in (-1, len(layer.output.shape) - 1):
            raise _uncovered(name, layer, "its axis is not the last")
        step = QuantizedStep("normalization", name, layer, inputs)
    elif kind == "Conv2D" and layer.groups == 1:
        step = QuantizedStep("conv", name, layer, inputs, layer.kernel, layer.bias)
    elif kind == "DepthwiseConv2D":
        step = QuantizedStep("depthwise", name, layer, inputs, layer.kernel, layer.bias)
    elif kind == "Dense" and len(layer.output.shape) == 2:
        step = QuantizedStep("dense", name, layer, inputs, layer.kernel, layer.bias)
    elif kind == "SeparableConv2D":
        first = QuantizedStep(
            "depthwise", f"{name}/depthwise", layer, inputs, layer.depthwise_kernel
        )
        yield first
        step = QuantizedStep("conv", f"{name}/pointwise", layer, [first], layer.pointwise_kernel,
                    layer.bias, is_pointwise=True)  # fmt: skip
    else:
        step = QuantizedStep("passive", name, layer, inputs)
        if kind not in ("Activation", "ReLU", "Softmax"):
            raise _uncovered(name, layer)
    yield step
    function = _activation(layer, name)
    if function:
        yield QuantizedStep(function, f"{name}/{function}", layer, [step])


def _activation(layer: Any, name: str) -> str:
    """Return the activation of a layer: "relu", "relu6", "softmax", or "" for none.

    Raises:
        ModelFileError: it is another one.
    """
    kind = type(layer).__name__
    if kind == "Softmax" and layer.axis in (-1, len(layer.output.shape) - 1):
        return "softmax"
    if kind == "ReLU" and not layer.negative_slope and not layer.threshold:
        function = {None: "relu", 6.0: "relu6"}.get(layer.max_value, "other")
    else:
        function = getattr(getattr(layer, "activation", None), "__name__", "linear")
        function = "other" if kind in ("ReLU", "Softmax") else function
    if function not in ("linear", "relu", "relu6", "softmax"):
        raise _uncovered(name, layer, f"its activation is {function}")
    return "" if function == "linear" else function


def _uncovered(name: str, layer: Any, reason: str = "") -> ModelFileError:
    return ModelFileError(
        f"layer {name} ({type(layer).__name__}) is not covered by quantized training"
        f"{': ' + reason if reason else ''}; replace it, or train in float and calibrate in export"
    )
