"""Errors of the layers of a quantized file, against the layers of its float sibling.

Noise propagates: all layers after a broken layer have a low signal-to-noise ratio. Layers are
therefore ranked by the reduction of the ratio from their inputs to their output. The reduction
that the number of bits makes unavoidable does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, has_manifest, load_artifact
from lenet_edge.classifier_io import to_model_input
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.formats import BY_NAME, format_of
from lenet_edge.results.parity_report import LayerError
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.verify.activations import Activation, Calls, compare_onnx, compare_tflite
from lenet_edge.verify.expected import Expected, call_with_images
from lenet_edge.verify.inference import read_calls, write_calls

NUM_IMAGES = 200
BIT_DB = 6.02  # dB for each bit; a smaller reduction is normal
_CLIPPED = 0.001  # fraction of clipped values that indicates wrong calibration images
_TOO_WIDE = 4.0  # ratio of range to values; this ratio wastes two bits


def find_sibling(artifact: Artifact) -> Artifact:
    """Find the float32 artifact of the same checkpoint and format in the folder of an artifact.

    Raises:
        ModelFileError: the folder has no such artifact.
    """
    for path in sorted(artifact.path.parent.iterdir()):
        if format_of(path) != BY_NAME[artifact.format] or not has_manifest(path):
            continue
        other = load_artifact(path)
        if (other.precision, other.parent_sha256) == ("float32", artifact.parent_sha256):
            return other
    raise ModelFileError(
        f"--layers compares {artifact.name} with the float32 .{artifact.format} file of the same"
        " checkpoint, and there is none beside it; export it, or give a file with --reference"
    )


def compare_layers(artifact: Artifact, sibling: Artifact, expected: Expected) -> list[LayerError]:
    """Compare the layers of a quantized artifact with those of its float sibling.

    Args:
        artifact: the quantized .tflite or .onnx file.
        sibling: the float32 file of the same format.
        expected: the images to run; the first 200 are used.

    Returns:
        The layers, sorted by `lost_db`, the largest first.

    Raises:
        LenetEdgeError: the formats differ or are not supported, or the files do not have the same
            layers.
    """
    _check_formats(artifact, sibling)
    _, fields_of_layers = call_with_images(
        lambda images, output: measure_layers.bind(artifact.to_json(), sibling.to_json(), images),
        expected.images[:NUM_IMAGES],
    )
    return _sorted_layers(artifact, sibling, fields_of_layers)


def compare_layers_of_calls(
    artifact: Artifact, sibling: Artifact, calls: Calls, sibling_calls: Calls
) -> list[LayerError]:
    """Compare the layers of two files of any number of inputs; see `compare_layers`.

    Args:
        artifact: the quantized .tflite or .onnx file.
        sibling: the float32 file of the same format.
        calls: the values of each input of the quantized file, for each call.
        sibling_calls: the same for the float file.
    """
    _check_formats(artifact, sibling)
    with temporary_folder() as folder:
        paths = folder / "calls.npz", folder / "sibling_calls.npz"
        for path, values in zip(paths, (calls, sibling_calls), strict=True):
            write_calls(path, values[:NUM_IMAGES])
        fields_of_layers = worker.run(
            measure_layers_of_calls.bind(artifact.to_json(), sibling.to_json(), *paths)
        )
    return _sorted_layers(artifact, sibling, fields_of_layers)


def _check_formats(artifact: Artifact, sibling: Artifact) -> None:
    if artifact.format != sibling.format or artifact.format not in ("tflite", "onnx"):
        raise LenetEdgeError(
            f"--layers compares .tflite with .tflite and .onnx with .onnx, not {artifact.name}"
            f" with {sibling.name}"
        )


def _sorted_layers(
    artifact: Artifact, sibling: Artifact, fields_of_layers: list[dict[str, Any]]
) -> list[LayerError]:
    layers = [LayerError.from_json(fields) for fields in fields_of_layers]
    if not layers:
        raise LenetEdgeError(
            f"{artifact.name} and {sibling.name} have no layer in common;"
            " compare files of the same checkpoint"
        )
    return sorted(layers, key=lambda layer: -layer.lost_db)


@worker.function
def measure_layers(
    artifact: dict[str, Any], sibling: dict[str, Any], images: Path
) -> list[dict[str, Any]]:
    """Run both files, and compare the outputs of their layers.

    Args:
        artifact: the quantized artifact, as `Artifact.to_json` returns it.
        sibling: the float artifact, in the same form.
        images: the .npy file of the images.

    Returns:
        The fields of the `LayerError` of each layer, in the order of the layers.
    """
    file, other = Artifact.from_json(artifact), Artifact.from_json(sibling)
    stored = np.load(images, allow_pickle=False)
    batch = max(file.batch_size or 1, other.batch_size or 1)
    whole = -(-len(stored) // batch) * batch
    stored = np.resize(stored, (whole, *stored.shape[1:]))  # fills the last batch from the start
    is_onnx = file.format == "onnx"
    calls, sibling_calls = (
        _split(to_model_input(stored, each), each.batch_size or (len(stored) if is_onnx else batch))
        for each in (file, other)
    )
    return _measure(file, other, calls, sibling_calls)


@worker.function
def measure_layers_of_calls(
    artifact: dict[str, Any], sibling: dict[str, Any], calls: Path, sibling_calls: Path
) -> list[dict[str, Any]]:
    """Run both files on the inputs of some calls, and compare the outputs of their layers.

    Args:
        artifact: the quantized artifact, as `Artifact.to_json` returns it.
        sibling: the float artifact, in the same form.
        calls: the .npz file of its inputs, see `inference.write_calls`.
        sibling_calls: the .npz file of the sibling's inputs.

    Returns:
        The same as `measure_layers`.
    """
    file, other = Artifact.from_json(artifact), Artifact.from_json(sibling)
    return _measure(file, other, list(read_calls(calls)), list(read_calls(sibling_calls)))


def _split(inputs: npt.NDArray[Any], size: int) -> list[list[npt.NDArray[Any]]]:
    return [[inputs[start : start + size]] for start in range(0, len(inputs) - size + 1, size)]


def _measure(
    file: Artifact, sibling: Artifact, calls: Calls, sibling_calls: Calls
) -> list[dict[str, Any]]:
    compare = compare_tflite if file.format == "tflite" else compare_onnx
    activations: dict[str, Activation] = {}
    for activation, float_values, values in compare(file, sibling, calls, sibling_calls):
        activations.setdefault(activation.name, activation).add(float_values, values)
    return [vars(_layer_error(activation, activations)) for activation in activations.values()]


def _layer_error(activation: Activation, activations: Mapping[str, Activation]) -> LayerError:
    inputs = [activations[name].sqnr_db for name in activation.inputs if name in activations]
    possible = min([activation.best_db, *inputs])
    saturation = activation.outside / max(activation.count, 1)
    lost = max(0.0, possible - activation.sqnr_db)
    return LayerError(
        name=activation.name,
        kind=activation.kind,
        sqnr_db=None if activation.noise == 0 else activation.sqnr_db,
        lost_db=lost,
        max_abs_error=activation.worst,
        saturation=saturation,
        range=activation.limits,
        seen=(activation.low, activation.high),
        hint=_hint(activation, saturation) if lost > BIT_DB else "",
    )


def _hint(activation: Activation, saturation: float) -> str:
    if activation.limits is None:
        return (
            "its activations are float, so the error is in its weights; give this layer more bits"
        )
    low, high = activation.limits
    ranges = (
        f"its range is {low:.3g} to {high:.3g} and its values are {activation.low:.3g} to"
        f" {activation.high:.3g}"
    )
    wider = (high - low) / max(activation.high - activation.low, 1e-30)
    if saturation > _CLIPPED:
        return (
            f"{ranges}, so {saturation:.1%} of its values are clipped; calibrate with images like"
            " these, scaled like these"
        )
    if wider > _TOO_WIDE:
        return (
            f"{ranges}; the range is {wider:.0f} times too wide and leaves few steps; calibrate"
            " with images scaled like these"
        )
    return (
        f"{ranges}, which fits, so the error is in its weights; quantize them per channel, or"
        " give this layer more bits (int16x8 or float)"
    )
