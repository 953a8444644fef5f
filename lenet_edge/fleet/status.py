"""States of the boards of a fleet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lenet_edge.fleet.connection import connect, connected_workers
from lenet_edge.fleet.inventory import Entry, read_inventory


def board_states(inventory: Path, scheduler: str) -> list[dict[str, Any]]:
    """Return the state of each board of the inventory and of each other connected worker.

    Args:
        inventory: the inventory file; it may be missing.
        scheduler: the scheduler's address.

    Returns:
        For each board, sorted by name: "name", "ssh" (None if it is not in the inventory), "tags",
        "state" ("busy", "idle" or "missing") and "last_seen_s" (seconds, None if missing).
    """
    entries = {}
    if inventory.exists():
        entries = {entry.name: entry for entry in read_inventory(inventory)}
    with connect(scheduler) as client:
        workers = {worker.name: worker for worker in connected_workers(client)}
        busy = {address for address, tasks in client.processing().items() if tasks}
    now, states = time.time(), []
    for name in sorted({*entries, *workers}):
        entry = entries.get(name, Entry(name, ""))
        state, last_seen_s = "missing", None
        if name in workers:
            worker = workers[name]
            state = "busy" if worker.address in busy else "idle"
            last_seen_s = max(0.0, now - worker.last_seen)
        states.append(
            {
                "name": name,
                "ssh": entry.ssh or None,
                "tags": list(entry.tags),
                "state": state,
                "last_seen_s": last_seen_s,
            }
        )
    return states
