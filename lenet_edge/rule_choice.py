"""Test of the preprocessing of a model: its accuracy on labelled images under each usual one.

A model that learned from pixels scaled to 0..1 is often right on many pixels of 0..255 too. So the
rules are compared image by image on the same images: McNemar's test tells whether a difference is
more than chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.head import Head, read_outputs, resolve_head
from lenet_edge.artifacts.preprocessing import (
    IMAGENET,
    MNIST,
    PIXELS,
    SIGNED,
    UNIT,
    Preprocessing,
    from_pixel_scale,
)
from lenet_edge.classifier_io import BATCH_SIZE, infer_all, to_model_input
from lenet_edge.data import mnist
from lenet_edge.data.dataset import LabelledImages
from lenet_edge.errors import LenetEdgeError
from lenet_edge.results.stats import mcnemar_p
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.support.temporary import temporary_folder

NUM_IMAGES = 2000
_FIRST_IMAGES = 200  # after these, rules that are far worse than the best are left out
_FAR_WORSE = 0.3
_SIGNIFICANT = 0.01
_LEAST_GAIN = 0.02  # of accuracy, for a rule to replace one that has a source
OWN_DIGITS = 0.5  # least accuracy on MNIST of a model that was trained on it
_SAME_MAGNITUDE = 10
# Returns the predicted classes of some images, if a rule prepares them.
Predict = Callable[[Preprocessing, npt.NDArray[Any]], npt.NDArray[np.int64]]

INVERTED = from_pixel_scale(-1 / 255, 1.0)
_CAFFE = from_pixel_scale(1.0, (-103.939, -116.779, -123.68), channels="bgr")


@dataclass(frozen=True)
class RuleComparison:
    """Result of the test.

    Attributes:
        rule: the preprocessing to use. Its origin is "tested" if it is clearly the best.
        accuracy: the share of the images that are predicted right with it.
        summary: the figures in words.
        fits: False if the model is about as good as chance, so the images are not of its kind.
    """

    rule: Preprocessing
    accuracy: float
    summary: str
    fits: bool


def candidates(channels: int | None) -> list[Preprocessing]:
    """Return the usual rules for gray or for RGB images."""
    if channels != 3:
        return [PIXELS, UNIT, SIGNED, MNIST, INVERTED]
    swapped = [dataclasses.replace(rule, channels="bgr") for rule in (PIXELS, UNIT, SIGNED)]
    return [PIXELS, UNIT, SIGNED, IMAGENET, *swapped, _CAFFE]


def compare_rules(
    predict: Predict,
    images: npt.NDArray[Any],
    labels: npt.NDArray[np.int32],
    num_classes: int,
    usual: Preprocessing,
    rules: Sequence[Preprocessing],
    name: str,
) -> RuleComparison:
    """Compare rules by the accuracy of a model.

    Args:
        predict: the model.
        images: pixels.
        labels: their classes.
        num_classes: the number of classes of the model.
        usual: the rule to keep if no other is clearly better.
        rules: the other rules.
        name: the name of the images.
    """
    chosen = np.random.default_rng(0).permutation(len(images))[:NUM_IMAGES]
    images, labels = images[chosen], labels[chosen]
    same = (usual.scale, usual.offset, usual.channels)
    others = [rule for rule in rules if (rule.scale, rule.offset, rule.channels) != same]
    first = slice(0, _FIRST_IMAGES)
    right = {rule: predict(rule, images[first]) == labels[first] for rule in (usual, *others)}
    limit = max(hits.mean() for hits in right.values()) - _FAR_WORSE
    kept = [rule for rule, hits in right.items() if rule is usual or hits.mean() >= limit]
    rest = slice(_FIRST_IMAGES, None)
    if len(images) > _FIRST_IMAGES:
        for rule in kept:
            hits = predict(rule, images[rest]) == labels[rest]
            right[rule] = np.concatenate([right[rule], hits])
    ranked = sorted(kept, key=lambda rule: -float(right[rule].mean()))
    top = ranked[0] if right[ranked[0]].mean() > right[usual].mean() else usual
    similar = [rule for rule in kept if _is_similar(rule, top)]
    # Among similar rules that are equally good, the most usual is the most likely.
    best = next(rule for rule in similar if not _is_better(right[top], right[rule]))
    clear = all(_is_better(right[top], right[rule]) for rule in kept if rule not in similar)
    if usual.origin != "assumed" and best is not usual:
        gain = float(right[best].mean() - right[usual].mean())
        clear = clear and gain > _LEAST_GAIN
        best = best if clear else usual
    accuracy = float(right[best].mean())
    runners_up = [rule for rule in ranked if rule is not best]
    texts = [f"{100 * right[rule].mean():.1f} % with {rule}" for rule in runners_up[:2]]
    summary = (
        f"with {best} it is right on {100 * accuracy:.1f} % of {len(images):,} images of {name}"
        + (f", {' and '.join(texts)}" if texts else "")
    )
    fits = not near_chance(accuracy, num_classes, len(images))
    if not fits or (best is usual and usual.origin != "assumed"):
        return RuleComparison(usual, accuracy, summary, fits)
    origin = "tested" if clear else "assumed"
    rule = dataclasses.replace(best if clear else usual, origin=origin, detail=summary)
    return RuleComparison(rule, accuracy, summary, fits)


def _is_similar(rule: Preprocessing, other: Preprocessing) -> bool:
    """Return True if the input values of two rules are of the same magnitude."""
    spans = [high - low for low, high in (rule.input_range, other.input_range)]
    return max(spans) < _SAME_MAGNITUDE * min(spans)


def _is_better(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    """Return True if a rule is right on more images than another, by more than chance."""
    p = mcnemar_p(int((first & ~second).sum()), int((~first & second).sum()))
    return bool(first.sum() > second.sum()) and p < _SIGNIFICANT


def near_chance(accuracy: float, num_classes: int, count: int) -> bool:
    """Return True if an accuracy is about that of a model that guesses."""
    chance = 1 / max(num_classes, 2)
    spread = float(np.sqrt(chance * (1 - chance) / max(count, 1)))
    return accuracy < chance + 3 * spread + 0.05


def takes_digits(artifact: Artifact) -> bool:
    """Return True if the shapes of a model allow MNIST's images and its ten classes."""
    if (len(artifact.inputs), len(artifact.outputs)) != (1, 1):
        return False
    outputs = artifact.outputs[0].shape[1:]
    fits = artifact.inputs[0].image_shape == (28, 28, 1)
    return fits and [size for size in outputs if size != 1] == [10]


def digits_decide(tested: RuleComparison) -> bool:
    """Return True if the accuracy on MNIST shows that a model was trained on its digits."""
    return tested.accuracy >= OWN_DIGITS


def predicted_classes(outputs: npt.NDArray[Any], artifact: Artifact) -> npt.NDArray[np.int64]:
    """Return the classes that the outputs of a model state; -1 if they state none."""
    flat = outputs.reshape(len(outputs), -1)
    flat = np.nan_to_num(flat, nan=0.0, posinf=1e30, neginf=-1e30)
    head = resolve_head(artifact.stated_head, flat)
    return np.full(len(flat), -1) if head is Head.VALUES else read_outputs(flat, head)[0]


def compare_on_images(
    artifact: Artifact, target: str, data: LabelledImages | None = None
) -> RuleComparison | None:
    """Compare the usual rules on a model file in a worker.

    Args:
        artifact: the model.
        target: the name of the target to open it on.
        data: pixels with labels; None means MNIST's test images.

    Returns:
        None if the model cannot run.
    """
    with temporary_folder() as folder:
        path = None
        if data is not None:
            path = Path(folder, "images.npz")
            assert data.labels is not None
            np.savez(path, images=data.images, labels=data.labels)
        try:
            facts = worker.run(measure_rules.bind(artifact.to_json(), target, path).within(120))
        except LenetEdgeError:
            return None
    return RuleComparison(**{**facts, "rule": Preprocessing(**facts["rule"])})


@worker.function
def measure_rules(artifact: dict[str, Any], target: str, images: Path | None) -> dict[str, Any]:
    """Compare the usual rules on a model.

    Args:
        artifact: the model, as `Artifact.to_json` returns it.
        target: the name of the target to open it on.
        images: an .npz file of images and labels; None means MNIST's test images.

    Returns:
        The fields of the `RuleComparison`.
    """
    file = Artifact.from_json(artifact)
    name, pixels, labels = _read(images)
    with closing(open_session(file, get_target(target))) as session:
        spec = session.input_specs[0]

        def predict(rule: Preprocessing, images: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
            values = to_model_input(images, dataclasses.replace(file, preprocessing=rule), spec)
            outputs = infer_all(session, values, file.batch_size or BATCH_SIZE)
            return predicted_classes(outputs, file)

        shape, outputs = file.inputs[0].image_shape, file.outputs[0].shape[1:]
        classes = max((size for size in outputs if size is not None), default=2)
        rules = candidates(shape[-1] if shape else None)
        usual = file.preprocessing
        return dataclasses.asdict(
            compare_rules(predict, pixels, labels, classes, usual, rules, name)
        )


def _read(path: Path | None) -> tuple[str, npt.NDArray[Any], npt.NDArray[np.int32]]:
    if path is None:
        test = mnist.load("test")
        return test.name, test.images, test.labels
    with np.load(path, allow_pickle=False) as arrays:
        return "--data", arrays["images"], arrays["labels"]
