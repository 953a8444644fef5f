"""Probe every target on this machine."""

from __future__ import annotations

from lenet_edge.flows.console import Console
from lenet_edge.runtimes import absence, all_targets
from lenet_edge.selection import TargetStatus, probe_in_one_worker
from lenet_edge.target import Target


def probe_targets(console: Console) -> list[TargetStatus]:
    """Run a tiny model on each installed target.

    A target with a delegate has a fresh process, because a delegate may disturb later targets. The
    other targets of a runtime share one, until one of them fails.

    Returns:
        The status of every target, with the reason if it cannot run.
    """
    absent, groups = {}, dict[str, list[Target]]()
    for target in all_targets():
        if reason := absence(target):
            absent[target.name] = TargetStatus(target, False, reason)
        else:
            groups.setdefault(target.name if target.delegate else target.runtime, []).append(target)
    with console.progress_bar("Probe", len(all_targets())) as step:
        statuses = dict(absent)
        for name in absent:
            step(name)
        for group in groups.values():
            for status in probe_in_one_worker(group):
                statuses[status.target.name] = status
                step(status.target.name)
    return [statuses[target.name] for target in all_targets()]
