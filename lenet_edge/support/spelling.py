"""Suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    """Return "did you mean A or B?" with the known names nearest to `name`, or an empty string.

    Args:
        name: the name that the user wrote.
        known: the names that exist.
        cutoff: similarity that a suggestion must reach, from 0 (anything) to 1 (equal).
    """
    from difflib import get_close_matches

    near = get_close_matches(name, sorted(known), n=3, cutoff=cutoff)
    if not near:
        return ""
    *first, last = near
    return f"did you mean {', '.join(first)} or {last}?" if first else f"did you mean {last}?"
