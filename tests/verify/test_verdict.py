"""Tests of the verdict, its bounds, and their sources."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.errors import LenetEdgeError
from lenet_edge.results.parity_report import Bounds
from lenet_edge.verify.parity import compare_logits
from lenet_edge.verify.verdict import DEFAULTS, bounds_for, judge_parity, read_bounds
from tests.conftest import LenetEdge


def comparison(count: int, wrong: int) -> dict[str, Any]:
    """Compare a model that is always right with a model that is wrong for some images."""
    labels = np.arange(count, dtype=np.int32) % 10
    reference = np.eye(10, dtype=np.float32)[labels]
    candidate = reference.copy()
    candidate[:wrong] = np.roll(candidate[:wrong], 1, axis=1)
    return compare_logits(reference, candidate, labels)


@pytest.mark.parametrize(
    ("count", "wrong", "bounds", "verdict", "messages"),
    [
        (10_000, 0, Bounds(0.1, 99), "pass", []),
        (10_000, 10, Bounds(0.1, 99), "pass", []),
        (10_000, 30, Bounds(0.1, 99), "fail", ["loses 0.30 points of accuracy, 0.2 more than"]),
        (10_000, 200, Bounds(5, 99), "fail", ["agrees on 98.00 % of the images, 1 less than"]),
        (10_000, 1, Bounds(None, None, 0.5), "fail", ["off by 1, 0.5 more than the 0.5 allowed"]),
        (200, 0, Bounds(0.1), "inconclusive", ["200 images are too few", "give 1,000 or more"]),
        (200, 2, Bounds(0.1), "inconclusive", ["200 images are too few"]),
        (200, 100, Bounds(0.1), "fail", ["loses 50.00 points"]),  # significant anyway
        (50, 1, Bounds(None, 99), "inconclusive", ["give 100 or more"]),
        (50, 25, Bounds(None, 99), "fail", ["agrees on 50.00 %"]),
        (1000, 1, Bounds(0.1, 99.9), "pass", []),
        (1000, 2, Bounds(0.1, 99.9), "fail", ["0.20 points", "agrees on 99.80 %"]),
        (999, 1, Bounds(0.1, 99.9), "inconclusive", ["give 1,000 or more"]),
        (300, 0, Bounds(0.1, 99.9), "pass", []),  # no prediction changes
        (299, 0, Bounds(0.1, 99.9), "inconclusive", ["give 1,000 or more"]),
        (100, 1, Bounds(None, 99.9), "inconclusive", []),  # a single flip may be chance
        (100, 2, Bounds(None, 99.9), "fail", ["agrees on 98.00 %"]),  # significant: p is 0.005
        (200, 0, Bounds(2, 99.9), "pass", []),  # with labels, and without flips
        (200, 1, Bounds(2, 99.9), "inconclusive", ["an agreement of 99.9 %"]),
        (200, 0, Bounds(None, 99.9), "inconclusive", ["an agreement of 99.9 %"]),
        (50, 0, Bounds(), "pass", []),
        (50, 0, Bounds(0, 100), "pass", []),  # no wrong image is allowed
        (50, 1, Bounds(0, None), "fail", ["loses 2.00 points"]),
    ],
)  # fmt: skip
def test_the_verdict_and_its_reasons(
    count: int, wrong: int, bounds: Bounds, verdict: str, messages: list[str]
) -> None:
    actual, reasons = judge_parity(comparison(count, wrong), bounds)
    assert actual == verdict
    assert len(reasons) == (0 if verdict == "pass" else len(reasons) or 1)
    for message in messages:
        assert message in "; ".join(reasons)


def test_non_finite_logits_fail_with_any_bounds() -> None:
    logits = np.eye(10, dtype=np.float32)
    candidate = logits.copy()
    candidate[3, 4] = np.nan
    verdict, reasons = judge_parity(compare_logits(logits, candidate), Bounds())
    assert (verdict, reasons) == ("fail", ("1 images have logits that are NaN or infinite",))


def test_bounds_depend_on_the_precision_and_can_be_overridden() -> None:
    assert bounds_for("int8", {}) == DEFAULTS["int8"]
    assert bounds_for("never heard of", {}) == DEFAULTS["unknown"]
    # The precision in a manifest may be any text.
    assert bounds_for("max_abs_error", {"max_abs_error": 1.0}).max_abs_error == 1.0
    settings = {"min_agreement": 98.0, "int8": {"max_abs_error": 2.0}}
    assert bounds_for("int8", settings) == Bounds(0.1, 98.0, 2.0, min_snr_db=20)
    assert bounds_for("float32", settings).max_abs_error == DEFAULTS["float32"].max_abs_error


needs_tomllib = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no tomllib")


@needs_tomllib
def test_bounds_are_read_from_pyproject(tmp_path: Path) -> None:
    assert read_bounds(tmp_path) == {}
    file = tmp_path / "pyproject.toml"
    file.write_text("[project]\nname = 'foreign'\n")
    assert read_bounds(tmp_path) == {}
    file.write_text(
        "[tool.lenet-edge]\nmax-accuracy-drop = 1\n[tool.lenet-edge.int8]\nmin-agreement = 97.5\n"
    )
    assert read_bounds(tmp_path) == {"max_accuracy_drop": 1.0, "int8": {"min_agreement": 97.5}}


@needs_tomllib
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max-drop = 1", "max-drop is unknown; valid keys are max-accuracy-drop, min-agreement"),
        ("max-accuracy-drop = 'much'", "'much' is not a number"),
        ("max-accuracy-drop = nan", "not a number"),
        ("max-accuracy-drop = inf", "not a number"),
        (f"max-accuracy-drop = {10**400}", "not a number"),
        ("max-accuracy-drop = " + "[" * 5000, "pyproject.toml"),
        ("min-agreement = true", "not a number"),
        ("int8 = 3", "int8 is unknown"),
        ("max-accuracy-drop = = 2", "pyproject.toml"),
        ("max-accuracy-drop = 2026-11-29", "not a number"),
        ("int8 = [1]", "int8 is unknown"),
        (".".join("a" * 20_000) + " = 1", "dots"),
        ("#" * 2**18, "more than"),
    ],
)
def test_invalid_bounds_are_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.lenet-edge]\n{text}\n")
    with pytest.raises(LenetEdgeError) as caught:
        read_bounds(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_tomllib
def test_options_override_pyproject_and_pyproject_overrides_defaults(
    lenet_edge_here: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.lenet-edge]\nmax-abs-error = 1e-9\n[tool.lenet-edge.float32]\nmin-agreement = 50\n"
    )
    file = exports / "lenet_float32.onnx"
    done = lenet_edge_here("verify", file, "--target", "onnx", "--json", "-")
    (report,) = json.loads(done.stdout)["parity"]
    assert done.returncode == 3
    assert report["bounds"] == {
        "max_accuracy_drop": DEFAULTS["float32"].max_accuracy_drop,
        "min_agreement": 50, "max_abs_error": 1e-9, "min_snr_db": 60,
        "min_cosine": None,
    }  # fmt: skip
    assert "more than the 1e-09 allowed" in report["reasons"][0]
    done = lenet_edge_here("verify", file, "--target", "onnx", "--max-abs-error", "1")
    assert done.returncode == 0, done.stdout
