"""Where a quantized file goes wrong: its activations against those of its float sibling.

Noise travels: behind a broken layer every layer looks bad. So what counts is what a layer itself
loses, the fall of the signal-to-noise ratio from its inputs to its output, capped by what its
number of bits could hold at best.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, has_manifest, load_artifact
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.formats import BY_NAME
from lenet_edge.results.parity_report import LayerError
from lenet_edge.verify.activations import Activation, walk_onnx, walk_tflite
from lenet_edge.verify.expected import Expected, call_with_images

NUM_IMAGES = 200
BIT_DB = 6.02  # one bit: a layer that loses less is as it should be
_CLIPPED = 0.001  # a share of values beyond the range that calibration does not explain
_TOO_WIDE = 4.0  # a range so many times wider than its values wastes two bits


def find_sibling(artifact: Artifact) -> Artifact:
    """Return the float32 file of the same checkpoint and format beside a file.

    Raises:
        ModelFileError: there is none.
    """
    for path in sorted(artifact.path.parent.iterdir()):
        if path.suffix != BY_NAME[artifact.format].suffix or not has_manifest(path):
            continue
        other = load_artifact(path)
        if (other.precision, other.parent_sha256) == ("float32", artifact.parent_sha256):
            return other
    raise ModelFileError(
        f"--layers compares {artifact.name} with the float32 .{artifact.format} file of the same"
        " checkpoint, and there is none beside it; export it, or give one with --reference"
    )


def compare_layers(artifact: Artifact, sibling: Artifact, expected: Expected) -> list[LayerError]:
    """Return the layers of a file against those of its float sibling, the worst first.

    Raises:
        LenetEdgeError: the files cannot be compared layer by layer.
    """
    if artifact.format != sibling.format or artifact.format not in ("tflite", "onnx"):
        raise LenetEdgeError(
            f"--layers compares .tflite with .tflite and .onnx with .onnx, not {artifact.name}"
            f" with {sibling.name}"
        )
    _, found = call_with_images(
        lambda images, output: measure_layers.bind(artifact.to_json(), sibling.to_json(), images),
        expected.images[:NUM_IMAGES],
    )
    layers = [LayerError.from_json(facts) for facts in found]
    if not layers:
        raise LenetEdgeError(f"{artifact.name} and {sibling.name} have no layer of the same name")
    return sorted(layers, key=lambda one: -one.lost_db)


@worker.function
def measure_layers(
    artifact: dict[str, Any], sibling: dict[str, Any], images: Path
) -> list[dict[str, Any]]:
    """Return the fields of the `LayerError` of each layer, in the order of the layers."""
    file, other = Artifact.from_json(artifact), Artifact.from_json(sibling)
    given = np.load(images, allow_pickle=False)
    batch = max(file.batch_size or 1, other.batch_size or 1)
    whole = -(-len(given) // batch) * batch
    given = np.resize(given, (whole, *given.shape[1:]))  # the last batch begins again at the first
    walk = walk_tflite if file.format == "tflite" else walk_onnx
    tensors: dict[str, Activation] = {}
    for tensor, wanted, found in walk(file, other, given):
        tensors.setdefault(tensor.name, tensor).add(wanted, found)
    return [vars(_judged(one, tensors)) for one in tensors.values()]


def _judged(one: Activation, tensors: Mapping[str, Activation]) -> LayerError:
    before = [tensors[name].sqnr_db for name in one.inputs if name in tensors]
    possible = min([one.best_db, *before])
    saturation = one.outside / max(one.count, 1)
    lost = max(0.0, possible - one.sqnr_db)
    return LayerError(
        name=one.name,
        kind=one.kind,
        sqnr_db=None if one.noise == 0 else one.sqnr_db,
        lost_db=lost,
        max_abs_error=one.worst,
        saturation=saturation,
        range=one.limits,
        seen=(one.seen[0], one.seen[1]),
        hint=_hint(one, saturation) if lost > BIT_DB else "",
    )


def _hint(one: Activation, saturation: float) -> str:
    if one.limits is None:
        return "its activations are float, so its weights lose it; give this layer more bits"
    low, high = one.limits
    held = f"it holds {low:.3g} to {high:.3g} and sees {one.seen[0]:.3g} to {one.seen[1]:.3g}"
    wider = (high - low) / max(one.seen[1] - one.seen[0], 1e-30)
    if saturation > _CLIPPED:
        return (
            f"{held}, so {saturation:.1%} of its values are clipped; calibrate with images like"
            " these, scaled like these"
        )
    if wider > _TOO_WIDE:
        return (
            f"{held}, a range {wider:.0f} times too wide, so few steps are left; the calibration"
            " images were scaled otherwise"
        )
    return (
        f"{held}, which fits, so its weights lose it; quantize them per channel, or give this"
        " layer more bits (int16x8, or float)"
    )
