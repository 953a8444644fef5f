"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# A failure keeps the machine from its job; a warning makes its figures doubtful or will hurt
# later; a note is something that it could do as well, but does not.
Status = Literal["ok", "note", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """What was found; where it is not ok, the cause, the fix, and where to read of it."""

    check: str
    status: Status
    found: str
    cause: str = ""
    fix: str = ""
    see: str = ""
