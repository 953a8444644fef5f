"""Plan of the arena: the offset of each buffer, so that buffers in use together do not overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

ALIGNMENT = 16
SLACK = 64  # bytes after the last buffer that a kernel may read


@dataclass(eq=False)
class Region:
    """Bytes that are in use from one step to another, both included."""

    size: int
    first: int
    last: int
    offset: int = 0

    def overlaps_in_time(self, other: Region) -> bool:
        """Return whether both are in use at the same step."""
        return self.first <= other.last and other.first <= self.last


def plan(regions: Sequence[Region]) -> int:
    """Set the offsets of the regions, and return the bytes that they need together.

    Each region gets the lowest place that is free during its life. The result depends on the
    order; the best of several orders is taken.
    """
    orders: tuple[Callable[[Region], tuple[int, ...]], ...] = (
        lambda region: (-region.size, region.first),
        lambda region: (-region.size * (region.last - region.first + 1), region.first),
        lambda region: (region.first, -region.size),
        lambda region: (-region.last, -region.size),
    )
    best: tuple[int, list[int]] | None = None
    for order in orders:
        total = _place(sorted(regions, key=order))
        if best is None or total < best[0]:
            best = total, [region.offset for region in regions]
    if best is None:
        return 0
    for region, offset in zip(regions, best[1], strict=True):
        region.offset = offset
    return best[0]


def _place(regions: Sequence[Region]) -> int:
    placed: list[Region] = []
    for region in regions:
        neighbours = sorted(
            (other for other in placed if region.overlaps_in_time(other)),
            key=lambda other: other.offset,
        )
        offset = 0
        for other in neighbours:
            if offset + region.size <= other.offset:
                break
            end = other.offset + other.size
            offset = max(offset, -(-end // ALIGNMENT) * ALIGNMENT)
        region.offset = offset
        placed.append(region)
    return max((region.offset + region.size for region in placed), default=0)
