"""Search for the fastest mix of float and int8 layers that is as accurate as the float model."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.bench.interleave import compare
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError, LenetEdgeError, ModelFileError
from lenet_edge.export import calibration, tflite
from lenet_edge.export import mix as mixer
from lenet_edge.export.artifact_writer import write_artifact
from lenet_edge.export.checkpoint import pair_pixels
from lenet_edge.export.converter import ConversionRequest
from lenet_edge.export.onnx_model import OnnxModel
from lenet_edge.export.settle_input import Options, prepare
from lenet_edge.export.source import read_float_model
from lenet_edge.flows.held_out import split_held_out, write_logits
from lenet_edge.flows.mixes import Mix, MixParity, TuneResult, mark_front
from lenet_edge.machine.environment import read_environment
from lenet_edge.selection import Pair
from lenet_edge.support.quiet import quiet
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import Logits, Target

MAX_TUNED_LAYERS = 5  # with 3 precisions each: 243 files, which take a few seconds
_GROUP_SIZE = 12  # files measured together; more files evict each other from the caches
_SCREENING_ROUNDS = 300
_NUM_FINALISTS = 12
_Files = list[tuple[Artifact, dict[str, str]]]  # each file with its precisions by layer name


def tune(
    checkpoint: Path,
    output_dir: Path,
    target: Target,
    training: Dataset,
    test: Dataset,
    stated: StatedInput = NOTHING_STATED,
    report: Callable[[str], None] = lambda step: None,
    note: Callable[[str], None] = lambda text: None,
) -> TuneResult:
    """Try every mix of precisions, and write the fastest that agrees with the float model.

    1. Measure whether the first convolution is faster on pairs of pixels (`pair_pixels`), and keep
       that form if it is.
    2. Quantize the five layers with the most weights in every combination of precisions. The other
       layers stay float.
    3. Compare each mix with the float model on held-out training images, see `split_held_out`.
    4. Measure the mixes that agree on this machine, interleaved: first all of them briefly, then
       the best at length.

    Args:
        checkpoint: a .keras or .onnx file.
        output_dir: the folder for the winner, ``<checkpoint>_mixed.tflite``.
        target: the target that runs the files.
        training: images that the model was trained on; they calibrate the mixes and judge them.
        test: images that only the winner is compared on.
        stated: the facts about the model's input that the user states.
        report: called with the name of each step.
        note: called with messages for the user.

    Raises:
        ModelFileError: the checkpoint cannot be loaded, or has no layer to tune.
        DataError: the images are not those of the model.
        LenetEdgeError: no mix passes, or the folder is not writable.
    """
    source, _, judged = prepare(checkpoint, training, test, Options(stated=stated), note)
    model, parent = source.model.for_converters, source.artifact
    if judged is None:
        raise DataError(
            f"the images of {test.name} are not those of {checkpoint.name}; give its own with"
            " --dataset"
        )
    calibrating, held_out = split_held_out(training)
    images = calibration.from_dataset(calibrating, source.channels_last)
    calibration.check_calibration(images, source.image_shape)
    manifest = {
        "batch_size": source.model.batch_size,
        "parent_sha256": parent.sha256,
        "converter": f"{tflite.CONVERTER}, {mixer.QUANTIZER}",
        "labels": parent.labels,
        "preprocessing": parent.preprocessing,
    }
    with temporary_folder() as folder:
        report("Converting")
        float32 = _write_float32(folder / "float32.tflite", model, images, manifest)
        model, settings = _choose_form(checkpoint, model, images, Pair(float32, target), manifest)
        report("Mixing")
        files: _Files = [(float32, {})]
        files += _write_mixes(model, settings, images, folder, manifest)
        report(f"Checking {len(files)} mixes on {len(held_out):,} held-out images")
        mixes = _compare_logits(files, target, held_out)
        report(f"Measuring {sum(mix.passed for mix in mixes)} mixes that agree")
        finalists = _measure(mixes, target)
        chosen = _choose_fastest(finalists, target)
        report(f"Testing {chosen.artifact.name}")
        tested = _compare_logits([files[0], (chosen.artifact, chosen.precisions)], target, test)[1]
        winner = write_artifact(
            output_dir / f"{checkpoint.stem}_mixed.tflite",
            chosen.artifact.path.read_bytes(),
            **_manifest_of(chosen.artifact),
        )
    return TuneResult(
        tuple(finalists), len(files), len(held_out), winner, chosen, tested.parity, target.name,
        read_environment(),
    )  # fmt: skip


def _manifest_of(artifact: Artifact) -> dict[str, Any]:
    names = ("precision", "batch_size", "parent_sha256", "converter", "calibration", "labels",
             "preprocessing", "settings")  # fmt: skip
    return {name: getattr(artifact, name) for name in names}


def _convert_float32(model: Any, images: calibration.Calibration) -> bytes:
    with quiet():
        return tflite.convert(ConversionRequest(model, "float32", images.arrays[0])).content


def _write_float32(
    path: Path, model: Any, images: calibration.Calibration, manifest: dict[str, Any]
) -> Artifact:
    content = _convert_float32(model, images)
    return write_artifact(path, content, precision="float32", calibration=None, **manifest)


def _choose_form(
    checkpoint: Path,
    model: Any,
    images: calibration.Calibration,
    plain: Pair,
    manifest: dict[str, Any],
) -> tuple[Any, tuple[str, ...]]:
    """Return the faster of the model and its form with paired pixels, and the manifest settings."""
    paired = read_float_model(checkpoint).for_converters  # again, because `pair_pixels` changes it
    layer = None if isinstance(paired, OnnxModel) else pair_pixels(paired)
    if layer is None:
        return model, ()
    path = plain.artifact.path.with_name("paired.tflite")
    artifact = _write_float32(path, paired, images, manifest)
    ratio = compare([plain, Pair(artifact, plain.target)])[1]
    return (paired, (f"paired_pixels={layer}",)) if ratio.high < 1 else (model, ())


def _write_mixes(
    model: Any,
    settings: tuple[str, ...],
    images: calibration.Calibration,
    folder: Path,
    manifest: dict[str, Any],
) -> Iterator[tuple[Artifact, dict[str, str]]]:
    """Write a file for each combination, and yield it with its precisions by layer name."""
    float_content = mixer.with_signature(_convert_float32(model, images))
    layers = mixer.layers(float_content)
    tunable = [layer for layer in layers if layer.tunable]
    if not tunable:
        raise ModelFileError("the model has no convolution and no dense layer; nothing to tune")
    tuned = sorted(tunable, key=lambda layer: -layer.weights)[:MAX_TUNED_LAYERS]
    tuned.sort(key=tunable.index)
    ranges = mixer.calibrate(float_content, images.arrays[0])
    for combination in itertools.product(mixer.PRECISIONS, repeat=len(tuned)):
        by_tensor = dict.fromkeys((layer.tensor for layer in tunable), "float")
        by_tensor.update(zip((layer.tensor for layer in tuned), combination, strict=True))
        by_name = {layer.name: by_tensor[layer.tensor] for layer in tunable}
        initials = "".join(precision[0] for precision in by_name.values())
        artifact = write_artifact(
            folder / f"mix_{initials}.tflite",
            mixer.quantize(float_content, layers, by_tensor, ranges),
            precision="mixed",
            calibration=images.source if "int8" in combination else None,
            settings=(*settings, *(f"{name}={precision}" for name, precision in by_name.items())),
            **manifest,
        )
        yield artifact, by_name


def _compare_logits(files: _Files, target: Target, part: Dataset) -> list[Mix]:
    """Compare each file with the first, without the files that the target cannot run."""
    with temporary_folder() as folder:
        images, output = folder / "images.npz", folder / "logits.npz"
        np.savez(images, images=part.images)
        paths = [artifact.path for artifact, _ in files]
        worker.run(write_logits.bind(paths, target.name, images, output).within(1800))
        with np.load(output, allow_pickle=False) as arrays:
            logits: dict[str, Logits] = dict(arrays)
    if "0" not in logits:
        raise LenetEdgeError(f"{target.name} cannot run the float32 file; choose another --target")
    head = files[0][0].stated_head
    return [
        Mix(artifact, precisions, MixParity.of(logits["0"], logits[str(index)], part.labels, head))
        for index, (artifact, precisions) in enumerate(files)
        if str(index) in logits
    ]


def _measure(mixes: Sequence[Mix], target: Target) -> list[Mix]:
    """Return the float32 file and the best mixes that passed, measured and with `on_front` set."""
    float32, *others = mixes
    others = [mix for mix in others if mix.passed]
    screened: list[Mix] = []
    for start in range(0, len(others), _GROUP_SIZE):
        group = others[start : start + _GROUP_SIZE]
        screened += _with_ratios([float32, *group], target, _SCREENING_ROUNDS, 1)[1:]
    front = [mix for mix in mark_front(screened) if mix.on_front]
    fastest = sorted(screened, key=lambda mix: mix.relative_latency)[:_NUM_FINALISTS]
    names = {mix.artifact.name for mix in (*front, *fastest)}
    finalists = [mix for mix in others if mix.artifact.name in names]
    return mark_front(_with_ratios([float32, *finalists], target))


def _with_ratios(mixes: Sequence[Mix], target: Target, *effort: int) -> list[Mix]:
    """Measure mixes relative to the first; `effort` is the number of rounds and of processes."""
    ratios = compare([Pair(mix.artifact, target) for mix in mixes], 1, 1, *effort)
    return [dataclasses.replace(m, ratio=ratio) for m, ratio in zip(mixes, ratios, strict=True)]


def _choose_fastest(finalists: Sequence[Mix], target: Target) -> Mix:
    """Return the smallest of the mixes that a measurement cannot tell from the fastest."""
    ordered = sorted(finalists, key=lambda mix: mix.relative_latency)
    measured = _with_ratios(ordered, target)
    as_fast = [
        finalist
        for finalist, relative in zip(ordered, measured, strict=True)
        if finalist is ordered[0] or (relative.ratio is not None and relative.ratio.low <= 1)
    ]
    return min(as_fast, key=lambda mix: mix.artifact.size_bytes)
