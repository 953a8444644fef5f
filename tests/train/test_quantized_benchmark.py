"""Figures and the hard network of `python -m benchmarks.training quantization`."""

from typing import Any

import numpy as np
import pytest

from benchmarks import quantized


def test_points_compare_with_both_float_networks() -> None:
    row = {"float_accuracy": 0.95, "tuned_float_accuracy": 0.96}
    figures = {"ptq_accuracy": 0.55, "tuned_ptq_accuracy": 0.76, "qat_accuracy": 0.93}
    points = quantized._points(figures, row)
    assert points == {
        "ptq_points": pytest.approx(-40),
        "tuned_ptq_points": pytest.approx(-20),
        "qat_points": pytest.approx(-2),
        "qat_points_against_tuned": pytest.approx(-3),
        "won_back": pytest.approx(0.95),
        "won_back_against_tuned": pytest.approx(0.85),
    }


def test_a_small_loss_has_no_part_that_is_won_back() -> None:
    assert quantized._won_back(0.995, 0.9949, 0.996) is None
    assert quantized._won_back(0.75, 0.5, 0.75) == 1
    assert quantized._won_back(0.75, 0.5, 0.25) == -1


def test_the_summary_has_each_figure_over_the_seeds() -> None:
    rows: list[dict[str, Any]] = [
        {"seed": 1, "float_accuracy": 0.5, "int8": {"bytes": 10, "won_back": 0.5}},
        {"seed": 2, "float_accuracy": 1.0, "int8": {"bytes": 20, "won_back": None}},
    ]
    assert quantized.summarize(rows) == {
        "float_accuracy": {"mean": 0.75, "min": 0.5, "max": 1.0},
        "int8": {"bytes": {"mean": 15, "min": 10, "max": 20}},
    }


@pytest.mark.costly
def test_unbalanced_channels_keep_the_float_function() -> None:
    model = quantized.build_hard(1)
    normalizations = [layer for layer in model.layers if hasattr(layer, "moving_mean")]
    random = np.random.default_rng(0)
    for layer in normalizations:  # as after a training
        size = layer.gamma.shape
        layer.moving_mean.assign(random.normal(size=size))
        layer.moving_variance.assign(random.uniform(0.5, 2, size))
        layer.beta.assign(random.normal(size=size))
    images = random.random((20, 28, 28, 1), np.float32)
    before, gammas = model(images).numpy(), [layer.gamma.numpy() for layer in normalizations]
    quantized.unbalance(model, 1)
    np.testing.assert_array_equal(model(images).numpy(), before)  # powers of two are exact
    for layer, gamma in zip(normalizations[:-1], gammas, strict=False):
        factors = layer.gamma.numpy() / gamma
        assert (factors.min(), factors.max()) == (0.25, 4)
    np.testing.assert_array_equal(normalizations[-1].gamma, gammas[-1])
