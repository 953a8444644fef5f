"""Description of a model file from elsewhere, which has neither a manifest nor a contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, TensorSpec, batch_size_of, describe_file
from lenet_edge.artifacts.declared import declared_preprocessing
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.artifacts.keras_file import read_preprocessing
from lenet_edge.artifacts.preprocessing import PIXELS, Preprocessing, infer_from_tensor
from lenet_edge.artifacts.stated_input import StatedInput
from lenet_edge.data import mnist
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.extras import install_command
from lenet_edge.rule_choice import compare_on_images, digits_decide, takes_digits
from lenet_edge.runtimes import NOT_BY_DEFAULT, absence, find_targets, get_target, open_session


def describe_foreign(path: Path, stated: StatedInput, note: Callable[[str], None]) -> Artifact:
    """Describe a file without manifest and contract, by opening it in a worker.

    The first target that can open the file reads its tensors. The preprocessing is the stated one,
    else the declared one, else the one that a quantized input implies. A model of the shape of
    MNIST is tested on its images. Otherwise pixels of 0 to 255 are assumed.
    """
    format = check_format(path)
    usual = [t for t in find_targets(format) if t.preference < NOT_BY_DEFAULT]
    runtimes = {target.runtime for target in usual}
    # Only tflite-micro may have the operators of a file for microcontrollers.
    others = [
        target
        for target in find_targets(format)
        if target.runtime not in {*runtimes, "null"} and target.measures == "latency"
    ]
    reasons = []
    for target in (*usual, *others):
        if absence(target):
            continue
        try:
            tensors = worker.run(read_tensors.bind(path, target.name).within(120))
        except LenetEdgeError as error:
            reasons.append(str(error))
            continue
        inputs, outputs = ([TensorSpec(**spec) for spec in tensors[side]] for side in ("in", "out"))
        rule, labels = _declared(path, format, inputs, outputs)
        artifact = describe_file(
            path,
            precision="unknown",
            batch_size=batch_size_of(inputs),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            parent_sha256=None,
            converter="unknown",
            calibration=None,
            labels=labels,
            preprocessing=rule or replace(PIXELS, origin="assumed"),
        )
        return _tested_on_digits(stated.describe(artifact), target.name, note)
    if reasons:
        raise ModelFileError(f"{path} cannot be used: {reasons[0]}")
    names = dict.fromkeys(target.extra for target in usual if target.extra)
    raise ModelFileError(
        f"{path} has no manifest, and no installed runtime can read it;"
        f" {', or '.join(map(install_command, names))}"
    )


def _declared(
    path: Path, format: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[Preprocessing | None, tuple[str, ...]]:
    """Return the preprocessing and the labels that a foreign file declares or implies."""
    if len(inputs) != 1 or not outputs:
        return None, ()
    rule, labels = declared_preprocessing(path, format, inputs, outputs)
    first = read_preprocessing(path) if format == "keras" else None
    spec = inputs[0]
    return first or rule or infer_from_tensor(spec.dtype, spec.scale, spec.zero_point), labels


def _tested_on_digits(artifact: Artifact, target: str, note: Callable[[str], None]) -> Artifact:
    """Test a model of the shape of MNIST on its images, if its labels are not known."""
    if artifact.labels or not takes_digits(artifact):
        return artifact
    tested = compare_on_images(artifact, target)
    if tested is None:
        return artifact
    if not digits_decide(tested):  # then `predict` has no digit to cut out
        rule = artifact.preprocessing
        return replace(artifact, preprocessing=replace(rule, resize=rule.resize or "stretch"))
    if not artifact.preprocessing.is_assumed:
        return replace(artifact, labels=mnist.CLASS_NAMES)
    note(f"{artifact.name}: {tested.summary}")
    return replace(artifact, labels=mnist.CLASS_NAMES, preprocessing=tested.rule)


@worker.function
def read_tensors(path: Path, target: str) -> dict[str, Any]:
    """Open a model file and read its tensors.

    Args:
        path: the model file.
        target: the name of the target to open it on.

    Returns:
        The fields of the `TensorSpec` of each input ("in") and of each output ("out").
    """
    bare = describe_file(
        path, precision="unknown", batch_size=None, inputs=(), outputs=(),
        parent_sha256=None, converter="unknown", calibration=None,
    )  # fmt: skip
    with closing(open_session(bare, get_target(target))) as session:
        return {
            "in": [asdict(spec) for spec in session.input_specs],
            "out": [asdict(spec) for spec in session.output_specs],
        }
