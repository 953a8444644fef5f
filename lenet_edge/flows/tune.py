"""Find the fastest mix: which layers in float, which in int8, and is the file still right?"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.bench.interleave import InterleavedRatio, compare
from lenet_edge.data import mnist
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.export import calibration, mix, tflite
from lenet_edge.export.checkpoint import load_checkpoint, pair_pixels
from lenet_edge.export.exporter import write_artifact
from lenet_edge.flows.held_out import HELD_OUT, NUM_HELD_OUT, TEST, answer, images_of
from lenet_edge.machine.environment import Environment, read_environment
from lenet_edge.selection import Pair
from lenet_edge.support.quiet import quiet
from lenet_edge.target import Logits, Target
from lenet_edge.verify.parity import compare_logits

SCHEMA_VERSION = 1
MAX_DROP = 0.05  # percentage points of accuracy
MIN_AGREEMENT = 0.999
MAX_TUNED_LAYERS = 5  # 3 precisions each: 243 files, a few seconds
_GROUP = 12  # files that are measured together; more of them push each other out of the caches
_SCREENING_ROUNDS = 300
_NUM_FINALISTS = 12


@dataclass(frozen=True)
class Parity:
    """How a mix answers, and how that differs from the float model: see `ParityReport`."""

    accuracy: float
    accuracy_drop: float
    top1_agreement: float
    non_finite: int

    @classmethod
    def of(cls, reference: Logits, candidate: Logits, labels: npt.NDArray[np.int32]) -> Parity:
        """Return how `candidate` does on the images that both answered."""
        found = compare_logits(reference, candidate, labels)
        return cls(
            found["candidate_accuracy"],
            found["accuracy_drop"],
            found["top1_agreement"],
            found["non_finite"],
        )


@dataclass(frozen=True)
class Candidate:
    """One mix: `precisions` by layer, what it lost on the held-out images, how fast it is here.

    `ratio` is its latency over the float32 file's. `on_front` tells that no other is at least as
    good in accuracy, latency and bytes, and better in one of them.
    """

    artifact: Artifact
    precisions: dict[str, str]
    parity: Parity
    ratio: InterleavedRatio | None = None
    on_front: bool = False

    @property
    def passed(self) -> bool:
        """Whether it is right enough to be chosen."""
        return (
            self.parity.accuracy_drop <= MAX_DROP
            and self.parity.top1_agreement >= MIN_AGREEMENT
            and self.parity.non_finite == 0
        )


@dataclass(frozen=True)
class Tuned:
    """What tuning found: the finalists, the float32 file first; the winner, and its test result."""

    candidates: tuple[Candidate, ...]
    num_tried: int
    winner: Artifact
    chosen: Candidate
    test: Parity
    target: str
    environment: Environment

    def to_json(self) -> dict[str, Any]:
        """Return everything as what JSON can carry."""
        return {
            "schema_version": SCHEMA_VERSION,
            "environment": dataclasses.asdict(self.environment),
            "target": self.target,
            "batch_size": 1,
            "num_threads": 1,
            "num_tried": self.num_tried,
            "num_held_out": NUM_HELD_OUT,
            "candidates": [
                {
                    "name": one.artifact.name,
                    "precisions": one.precisions,
                    "settings": one.artifact.settings,
                    "size_bytes": one.artifact.size_bytes,
                    "sha256": one.artifact.sha256,
                    "on_front": one.on_front,
                    "ratio_to_float32": one.ratio and dataclasses.asdict(one.ratio),
                    **_facts(one.parity),
                }
                for one in self.candidates
            ],
            "winner": {
                "file": self.winner.name,
                "candidate": self.chosen.artifact.name,
                "sha256": self.winner.sha256,
                "test": _facts(self.test),
            },
        }


def _facts(parity: Parity) -> dict[str, float]:
    return {
        "accuracy": parity.accuracy,
        "accuracy_drop": parity.accuracy_drop,
        "top1_agreement": parity.top1_agreement,
    }


def tune(
    checkpoint: Path,
    output_dir: Path,
    target: Target,
    report: Callable[[str], None] = lambda what: None,
) -> Tuned:
    """Try every mix of precisions, and write the fastest that is still right.

    First it measures whether the first convolution is faster on pairs of pixels (`pair_pixels`),
    and keeps that if so. The five layers with most weights are tuned, the others stay float. Each
    mix must agree with the float model on the last 5,000 training images; those that do are
    measured on this machine, interleaved, first all of them briefly, then the best at length.

    Args:
        checkpoint: a .keras file whose images are MNIST's.
        output_dir: the winner goes there, as ``<checkpoint>_mixed.tflite``.
        target: where it will run.
        report: called with each step's name.

    Raises:
        ModelFileError: the checkpoint cannot be loaded, or has no layer to tune.
        LenetEdgeError: no mix passes, or the folder cannot be written to.
    """
    model, parent = load_checkpoint(checkpoint), load_artifact(checkpoint)
    training = mnist.load("train")
    images = calibration.from_dataset(training, parent.pixel_scale)
    calibration.check(images, tuple(model.inputs[0].shape[1:]))
    facts = {
        "batch_size": None,
        "parent_sha256": parent.sha256,
        "converter": f"{tflite.CONVERTER}, {mix.QUANTIZER}",
        "labels": parent.labels,
        "pixel_scale": parent.pixel_scale,
    }
    with tempfile.TemporaryDirectory(prefix="lenet-edge-") as name:
        folder = Path(name)
        report("Converting")
        float32 = write_artifact(
            folder / "float32.tflite",
            _float32(model, images),
            precision="float32",
            calibration=None,
            **facts,
        )
        model, paired = _fastest_form(checkpoint, model, images, Pair(float32, target), facts)
        report("Mixing")
        made: list[tuple[Artifact, dict[str, str]]]
        made = [(float32, {}), *_make_all(model, paired, images, folder, facts)]
        report(f"Checking {len(made)} mixes on {NUM_HELD_OUT:,} held-out images")
        candidates = _judge(made, target, HELD_OUT)
        report(f"Measuring {sum(one.passed for one in candidates)} that are right")
        finalists = _measure(candidates, target)
        chosen = _choose(finalists, target)
        report(f"Testing {chosen.artifact.name}")
        test = _judge([made[0], (chosen.artifact, chosen.precisions)], target, TEST)[1].parity
        winner = write_artifact(
            output_dir / f"{checkpoint.stem}_mixed.tflite",
            chosen.artifact.path.read_bytes(),
            **_own_facts(chosen.artifact),
        )
    return Tuned(tuple(finalists), len(made), winner, chosen, test, target.name, read_environment())


def _own_facts(artifact: Artifact) -> dict[str, Any]:
    names = ("precision", "batch_size", "parent_sha256", "converter", "calibration", "labels",
             "pixel_scale", "settings")  # fmt: skip
    return {name: getattr(artifact, name) for name in names}


def _float32(model: Any, images: calibration.Calibration) -> bytes:
    with quiet():
        return tflite.convert(model, "float32", images.images)


def _fastest_form(
    checkpoint: Path,
    model: Any,
    images: calibration.Calibration,
    plain: Pair,
    facts: dict[str, Any],
) -> tuple[Any, tuple[str, ...]]:
    """Return the model to mix, as it is or with its pixels paired, and what to say of that."""
    other = load_checkpoint(checkpoint)
    layer = pair_pixels(other)
    if layer is None:
        return model, ()
    artifact = write_artifact(
        plain.artifact.path.with_name("paired.tflite"),
        _float32(other, images),
        precision="float32",
        calibration=None,
        **facts,
    )
    ratio = compare([plain, Pair(artifact, plain.target)])[1]
    return (other, (f"paired_pixels={layer}",)) if ratio.high < 1 else (model, ())


def _make_all(
    model: Any,
    paired: tuple[str, ...],
    images: calibration.Calibration,
    folder: Path,
    facts: dict[str, Any],
) -> list[tuple[Artifact, dict[str, str]]]:
    """Return each mix's artifact and its precisions by layer."""
    plain = mix.with_signature(_float32(model, images))
    layers = mix.layers(plain)
    tunable = [layer for layer in layers if layer.tunable]
    if not tunable:
        raise ModelFileError("the model has no convolution and no dense layer; nothing to tune")
    tuned = sorted(tunable, key=lambda layer: -layer.weights)[:MAX_TUNED_LAYERS]
    tuned.sort(key=tunable.index)
    ranges = mix.calibrate(plain, images.images)
    made = []
    for combination in itertools.product(mix.PRECISIONS, repeat=len(tuned)):
        chosen = dict.fromkeys((layer.tensor for layer in tunable), "float")
        chosen.update(zip((layer.tensor for layer in tuned), combination, strict=True))
        by_name = {layer.name: chosen[layer.tensor] for layer in tunable}
        initials = "".join(precision[0] for precision in by_name.values())
        artifact = write_artifact(
            folder / f"mix_{initials}.tflite",
            mix.quantize(plain, layers, chosen, ranges),
            precision="mixed",
            calibration=images.source if "int8" in combination else None,
            settings=(*paired, *(f"{name}={one}" for name, one in by_name.items())),
            **facts,
        )
        made.append((artifact, by_name))
    return made


def _judge(
    made: Sequence[tuple[Artifact, dict[str, str]]], target: Target, part: str
) -> list[Candidate]:
    """Compare each file with the first; those that the target cannot run are left out."""
    with tempfile.TemporaryDirectory(prefix="lenet-edge-") as folder:
        output = Path(folder, "logits.npz")
        paths = [artifact.path for artifact, _ in made]
        worker.run(answer.bind(paths, target.name, part, output).within(1800))
        with np.load(output, allow_pickle=False) as arrays:
            logits: dict[str, Logits] = dict(arrays)
    labels = images_of(part).labels
    if "0" not in logits:
        raise LenetEdgeError(f"{target.name} cannot run the float32 file; choose another --target")
    return [
        Candidate(artifact, precisions, Parity.of(logits["0"], logits[str(index)], labels))
        for index, (artifact, precisions) in enumerate(made)
        if str(index) in logits
    ]


def _measure(candidates: Sequence[Candidate], target: Target) -> list[Candidate]:
    """Return the float32 file and the best of those that passed, with ratios and the front."""
    first, *others = candidates
    others = [one for one in others if one.passed]
    screened = []
    for start in range(0, len(others), _GROUP):
        group = others[start : start + _GROUP]
        screened += _with_ratios([first, *group], target, _SCREENING_ROUNDS, 1)[1:]
    front = [one for one in _mark_front(screened) if one.on_front]
    fastest = sorted(screened, key=_latency)[:_NUM_FINALISTS]
    names = {one.artifact.name for one in (*front, *fastest)}
    finalists = [one for one in others if one.artifact.name in names]
    return _mark_front(_with_ratios([first, *finalists], target))


def _with_ratios(candidates: Sequence[Candidate], target: Target, *effort: int) -> list[Candidate]:
    pairs = [Pair(one.artifact, target) for one in candidates]
    found = compare(pairs, 1, 1, *effort)
    return [dataclasses.replace(c, ratio=r) for c, r in zip(candidates, found, strict=True)]


def _latency(candidate: Candidate) -> float:
    assert candidate.ratio is not None
    return candidate.ratio.median


def _costs(candidate: Candidate) -> tuple[float, float, int]:
    return (candidate.parity.accuracy_drop, _latency(candidate), candidate.artifact.size_bytes)


def _mark_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates, with `on_front` set (accuracy, latency and bytes, less is better)."""
    costs = [_costs(one) for one in candidates]

    def beaten(mine: tuple[float, float, int]) -> bool:
        return any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
            for other in costs
        )

    return [
        dataclasses.replace(one, on_front=not beaten(mine))
        for one, mine in zip(candidates, costs, strict=True)
    ]


def _choose(finalists: Sequence[Candidate], target: Target) -> Candidate:
    """Return the fastest; among those that no measurement tells from it, the smallest file."""
    ordered = sorted(finalists, key=_latency)
    duels = _with_ratios(ordered, target)
    equal = [
        known
        for known, duel in zip(ordered, duels, strict=True)
        if known is ordered[0] or (duel.ratio is not None and duel.ratio.low <= 1)
    ]
    return min(equal, key=lambda one: one.artifact.size_bytes)
