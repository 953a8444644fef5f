"""Does a target work here? It does when it has opened a session and given the right answer.

The probe models answer, for a 4 x 4 image, ten logits: logit j is the sum of the pixels whose
index ends in j. ``python -m lenet_edge.flows.make_probe`` makes them.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import SUFFIXES, load_artifact
from lenet_edge.errors import TargetError
from lenet_edge.runtimes import open_session
from lenet_edge.target import Target

FOLDER = Path(__file__).parent / "probe"
IMAGE_SHAPE = (4, 4, 1)
NUM_CLASSES = 10


def weights() -> npt.NDArray[np.float32]:
    """Return the probe model's one matrix: float32 of shape (pixels, classes), of 0 and 1."""
    pixels = np.arange(np.prod(IMAGE_SHAPE))
    matrix: npt.NDArray[np.float32] = np.equal(
        pixels[:, None] % NUM_CLASSES, np.arange(NUM_CLASSES)
    ).astype(np.float32)
    return matrix


@worker.function
def probe(target: dict[str, Any]) -> dict[str, Any]:
    """Run the probe model on a target.

    Args:
        target: the fields of the `Target`.

    Returns:
        "runtime_version", and the fields of the `Delegation` or None.

    Raises:
        TargetError: the target cannot run it, leaves it to the CPU, or answers wrong.
    """
    chosen = Target.from_json(target)
    artifact = load_artifact(FOLDER / f"probe{SUFFIXES[chosen.formats[0]]}")
    images = np.random.default_rng(0).random((3, *IMAGE_SHAPE), np.float32)
    expected = images.reshape(3, -1) @ weights()
    with closing(open_session(artifact, chosen)) as session:
        session.prepare(images)
        session.infer()
        found = session.logits()
        if chosen.runtime != "null" and not np.allclose(found, expected, atol=1e-2):
            off = np.abs(found - expected).max()
            raise TargetError(f"{chosen.name} runs, but answers wrong: off by up to {off:.3g}")
        taken = session.delegation
        if taken and not taken.nodes_taken:
            raise TargetError(f"{chosen.name} runs, but {taken} of a small model")
        return {
            "runtime_version": session.runtime_version,
            "delegation": asdict(taken) if taken else None,
        }
