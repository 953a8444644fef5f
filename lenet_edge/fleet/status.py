"""Who of an inventory is there, and what each does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lenet_edge.fleet.connection import connect
from lenet_edge.fleet.inventory import Entry, read


def look(inventory: Path, scheduler: str) -> list[dict[str, Any]]:
    """Return each board of the inventory, and each worker that is not in it.

    Returns:
        By board: "name", "ssh", "tags", "state" ("busy", "idle" or "missing") and "last_seen_s".
        Those that only the scheduler knows have no ssh.
    """
    entries = {one.name: one for one in read(inventory)} if inventory.exists() else {}
    with connect(scheduler) as client:
        workers = {str(one["name"]): one for one in client.scheduler_info()["workers"].values()}
        busy = {address for address, tasks in client.processing().items() if tasks}
        addresses = {
            str(one["name"]): address for address, one in client.scheduler_info()["workers"].items()
        }
    now, found = time.time(), []
    for name in sorted({*entries, *workers}):
        entry = entries.get(name, Entry(name, ""))
        worker = workers.get(name)
        state = "missing" if worker is None else "busy" if addresses[name] in busy else "idle"
        found.append(
            {
                "name": name,
                "ssh": entry.ssh or None,
                "tags": list(entry.tags),
                "state": state,
                "last_seen_s": None if worker is None else max(0.0, now - worker["last_seen"]),
            }
        )
    return found
