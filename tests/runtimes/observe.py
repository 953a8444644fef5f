"""Do with a session all that the contract speaks of, and write down what came of it.

Run as a process of its own for each target and file: python -m tests.runtimes.observe
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.target import Images, Logits, Session


def answer(session: Session, images: Images) -> Logits:
    session.prepare(images)
    session.infer()
    return session.logits()


def fails(function: Any, *arguments: Any) -> bool:
    try:
        function(*arguments)
    except Exception:
        return True
    return False


def observe(path: Path, target: str, images: Images, output: Path) -> dict[str, Any]:
    artifact, chosen = load_artifact(path), get_target(target)
    seen: dict[str, Logits] = {}
    session = open_session(artifact, chosen)
    facts: dict[str, Any] = {
        "inputs": [dataclasses.asdict(spec) for spec in session.inputs],
        "outputs": [dataclasses.asdict(spec) for spec in session.outputs],
        "runtime_version": session.runtime_version,
        "promised": chosen.delegate,
        "delegation": session.delegation and dataclasses.asdict(session.delegation),
    }

    seen["together"] = answer(session, images)
    seen["ones"] = np.concatenate([answer(session, image[None]) for image in images[:7]])
    seen["seven"] = answer(session, images[:7])
    seen["ones_again"] = np.concatenate([answer(session, image[None]) for image in images[:7]])

    seen["before"] = answer(session, images[:7])
    kept = session.logits()
    kept += 1
    seen["after_a_change"] = session.logits()
    kept = session.logits()
    answer(session, images[7:14])
    seen["kept"] = kept

    other = open_session(artifact, chosen)
    session.prepare(images[:7])
    other.prepare(images[7:12])
    session.infer()
    other.infer()
    seen["first_of_two"], seen["second_of_two"] = session.logits(), other.logits()
    other.close()
    seen["after_the_other_closed"] = answer(session, images[:7])

    facts["wrong_shape_fails"] = fails(answer, session, images[:, :5])
    session.close()
    facts["closed_cannot_infer"] = fails(session.infer)
    del session, other
    gc.collect()
    facts["still_mapped"] = str(path) in Path("/proc/self/maps").read_text()

    np.savez(output, **seen)
    return facts


if __name__ == "__main__":
    path, target, images, output = sys.argv[1:]
    facts = observe(Path(path), target, np.load(images), Path(output))
    Path(output).with_suffix(".json").write_text(json.dumps(facts))
    sys.stdout.flush()
