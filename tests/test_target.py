"""Tests of quantization, against the specification and the TFLite interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.target import dequantize, quantize


@st.composite
def quantized_specs(draw: st.DrawFn) -> TensorSpec:
    dtype = draw(st.sampled_from(["int8", "uint8"]))
    limits = np.iinfo(dtype)
    return TensorSpec(
        "image",
        (None, 4),
        dtype,
        scale=draw(st.floats(2**-12, 8, width=32)),
        zero_point=draw(st.integers(int(limits.min), int(limits.max))),
    )


def real_range(spec: TensorSpec) -> tuple[float, float]:
    """Compute the smallest and the largest real number that a tensor can hold."""
    assert spec.scale is not None
    assert spec.zero_point is not None
    limits = np.iinfo(spec.dtype)
    return (
        spec.scale * (int(limits.min) - spec.zero_point),
        spec.scale * (int(limits.max) - spec.zero_point),
    )


FRACTIONS = arrays(np.float64, (3, 4), elements=st.floats(0, 1))


@given(quantized_specs(), FRACTIONS)
def test_a_round_trip_is_within_half_a_step(
    spec: TensorSpec, fractions: npt.NDArray[np.float64]
) -> None:
    low, high = real_range(spec)
    values = (low + fractions * (high - low)).astype(np.float32)
    steps = quantize(values, spec)
    assert steps.dtype == spec.dtype
    assert spec.scale is not None
    restored = dequantize(steps, spec)
    assert restored.dtype == np.float32
    # The relative rounding error of float32 is up to 2 ** -23 of the largest value.
    slack = 4 * np.finfo(np.float32).eps * max(abs(low), abs(high))
    assert np.abs(restored.astype(np.float64) - values).max() <= spec.scale / 2 + slack


@given(
    quantized_specs(), arrays(np.float32, (3, 4), elements=st.floats(-(2.0**90), 2.0**90, width=32))
)
def test_values_outside_the_range_are_clipped(
    spec: TensorSpec, values: npt.NDArray[np.float32]
) -> None:
    low, high = real_range(spec)
    assert spec.scale is not None
    limits = np.iinfo(spec.dtype)
    steps = quantize(values, spec)
    assert (steps[values > high + spec.scale] == limits.max).all()
    assert (steps[values < low - spec.scale] == limits.min).all()


@given(quantized_specs())
def test_every_integer_is_restored(spec: TensorSpec) -> None:
    limits = np.iinfo(spec.dtype)
    every = np.arange(limits.min, limits.max + 1).astype(spec.dtype)
    np.testing.assert_array_equal(quantize(dequantize(every, spec), spec), every)


def test_quantize_does_not_change_its_argument() -> None:
    images = np.linspace(0, 1, 12, dtype=np.float32)
    kept = images.copy()
    quantize(images, TensorSpec("image", (None,), "int8", 1 / 255, -128))
    np.testing.assert_array_equal(images, kept)


def test_floats_stay_unchanged_and_are_copied() -> None:
    spec = TensorSpec("logits", (None, 4), "float32")
    values = np.array([[1.5, -2.25, np.nan, np.inf]], np.float32)
    np.testing.assert_array_equal(quantize(values, spec), values)
    out = dequantize(values, spec)
    np.testing.assert_array_equal(out, values)
    assert not np.shares_memory(out, values)


@pytest.fixture(scope="module")
def interpreter() -> Any:
    """Return an interpreter of a model that quantizes to int8, reshapes and dequantizes."""
    import tensorflow as tf

    class Reshape(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((1, 1000), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, values: Any) -> Any:
            return tf.reshape(values, (1000, 1))

    def samples() -> Any:
        yield [np.linspace(-1.7, 3.1, 1000, dtype=np.float32)[None]]

    module = Reshape()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.__call__.get_concrete_function()], module
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    return interpreter


def test_quantization_equals_that_of_the_tflite_interpreter(interpreter: Any) -> None:
    operators = [details["op_name"] for details in interpreter._get_ops_details()]
    assert operators[0] == "QUANTIZE"
    integers = next(d for d in interpreter.get_tensor_details() if d["dtype"] is np.int8)
    scale, zero_point = integers["quantization"]
    spec = TensorSpec("values", (1, 1000), "int8", float(scale), int(zero_point))

    values = np.random.default_rng(1).uniform(-3, 5, (1, 1000)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    values = dequantize(quantize(values, spec), spec)
    np.testing.assert_allclose(expected.reshape(1, 1000), values, rtol=0, atol=scale / 100)


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint8"])
def test_integers_without_a_scale_are_rounded_and_clipped(dtype: str) -> None:
    spec = TensorSpec("index", (5,), dtype)
    limits = np.iinfo(dtype)
    values = np.array([-1e30, 1.6, 2.4, 100, 1e30], np.float32)
    steps = quantize(values, spec)
    assert steps.dtype == dtype
    assert steps[:4].tolist() == [limits.min, 2, 2, 100]
    assert float(steps[4]) == pytest.approx(float(limits.max))
    large = np.array([2**40 + 1], np.int64)  # too long for a float32
    assert quantize(large, spec).tolist() == [min(2**40 + 1, limits.max)]
