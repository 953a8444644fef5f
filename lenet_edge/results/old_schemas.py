"""Upgrades of result files that earlier versions wrote, to the current schema.

Schema versions:
    1 (2026-11): one process per measurement, one bound per parity report.
    2 (2026-11): several processes per measurement; verdicts with their bounds.
    3 (2026-11): the delegation is an object of its own, with its device.
    4 (2026-11): a run has the name of its board; a file may hold the runs of a fleet.
    5 (2026-11): parity reports have the head and the signal-to-noise ratio. Outputs that are no
        classes have no agreement.
    6 (2026-11): instruction counts, times of layers, cycles of boards, and whether files differed
        from the commit. Earlier files have none of them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from lenet_edge.results.process_samples import ProcessSamples
from lenet_edge.target import Delegation


def upgrade(facts: dict[str, Any]) -> dict[str, Any]:
    """Return a run's JSON object, of any earlier schema, in the current schema."""
    if facts["schema_version"] == 1:
        facts = _from_1_to_2(facts)
    if facts["schema_version"] == 2:
        facts = _from_2_to_3(facts)
    if facts["schema_version"] == 3:
        facts = {**facts, "board": None}
    return facts


def _from_1_to_2(facts: dict[str, Any]) -> dict[str, Any]:
    process_fields = {f.name for f in dataclasses.fields(ProcessSamples)}
    measurements = []
    for measurement in facts["measurements"]:
        process = {name: value for name, value in measurement.items() if name in process_fields}
        rest = {name: value for name, value in measurement.items() if name not in process_fields}
        measurements.append({**rest, "trials": [process]})
    parity = [
        {
            **report,
            "verdict": "pass" if report["passed"] else "fail",
            "bounds": {"max_accuracy_drop": report["tolerance"]},
        }
        for report in facts["parity"]
    ]
    return {
        **facts,
        "environment": {**facts["environment"], "affinity": ()},
        "measurements": measurements,
        "parity": parity,
        "settings": {},
        "remaining": 0,
        "schema_version": 2,
    }


def _from_2_to_3(facts: dict[str, Any]) -> dict[str, Any]:
    lists = {
        name: [_with_delegation(entry) for entry in facts[name]]
        for name in ("measurements", "parity")
    }
    return {**facts, **lists, "schema_version": 3}


def _with_delegation(facts: dict[str, Any]) -> dict[str, Any]:
    """Return a measurement or parity report whose fields on a delegate are one object."""
    total, taken = facts.get("nodes_total"), facts.get("nodes_taken")
    if total is None or taken is None:
        return {**facts, "delegation": None}
    delegation = Delegation(facts.get("delegate") or facts["target"], total, taken)
    return {**facts, "delegation": dataclasses.asdict(delegation)}
