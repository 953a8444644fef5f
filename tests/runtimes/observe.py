"""Use of a session in every way that the contract of a runtime allows, with the results recorded.

A separate process per target: ``python -m tests.runtimes.observe TARGET IMAGES FOLDER FILE...``
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.target import Images, Logits, Session


def run_batch(session: Session, images: Images) -> Logits:
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
    recorded: dict[str, Logits] = {}
    session = open_session(artifact, chosen)
    facts: dict[str, Any] = {
        "inputs": [dataclasses.asdict(spec) for spec in session.input_specs],
        "outputs": [dataclasses.asdict(spec) for spec in session.output_specs],
        "runtime_version": session.runtime_version,
        "promised": chosen.delegate,
        "delegation": session.delegation and dataclasses.asdict(session.delegation),
    }

    recorded["together"] = run_batch(session, images)
    recorded["ones"] = np.concatenate([run_batch(session, image[None]) for image in images[:7]])
    recorded["seven"] = run_batch(session, images[:7])
    recorded["ones_again"] = np.concatenate(
        [run_batch(session, image[None]) for image in images[:7]]
    )

    recorded["before"] = run_batch(session, images[:7]).copy()  # even if the session does not
    kept = session.logits()
    kept += 1
    recorded["after_a_change"] = session.logits().copy()
    kept = session.logits()
    run_batch(session, images[7:14])
    recorded["kept"] = kept

    other = open_session(artifact, chosen)
    session.prepare(images[:7])
    other.prepare(images[7:12])
    session.infer()
    other.infer()
    recorded["first_of_two"], recorded["second_of_two"] = session.logits(), other.logits()
    other.close()
    recorded["after_the_other_closed"] = run_batch(session, images[:7])

    facts["wrong_shape_fails"] = fails(run_batch, session, images[:, :5])
    session.close()
    facts["closed_cannot_infer"] = fails(session.infer)
    del session, other
    gc.collect()
    facts["still_mapped"] = str(path) in Path("/proc/self/maps").read_text()

    np.savez(output, **recorded)
    return facts


if __name__ == "__main__":
    target, images, folder, *paths = sys.argv[1:]
    for path in map(Path, paths):
        output = Path(folder) / path.name
        try:
            facts = observe(path, target, np.load(images), output.with_name(f"{path.name}.npz"))
        except Exception:  # the other files of the target may be right
            facts = {"error": traceback.format_exc()}
        output.with_name(f"{path.name}.json").write_text(json.dumps(facts))
    sys.stdout.flush()
