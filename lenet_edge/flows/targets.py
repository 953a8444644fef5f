"""Probe every target on this machine."""

from __future__ import annotations

from lenet_edge.flows.console import Console
from lenet_edge.runtimes import absence, all_targets
from lenet_edge.selection import TargetStatus, probe_target


def probe_targets(console: Console) -> list[TargetStatus]:
    """Run a tiny model on each installed target, each in a fresh process.

    Returns:
        The status of every target, with the reason if it cannot run.
    """
    statuses = []
    with console.progress_bar("Probe", len(all_targets())) as step:
        for target in all_targets():
            reason = absence(target)
            statuses.append(TargetStatus(target, False, reason) if reason else probe_target(target))
            step(target.name)
    return statuses
