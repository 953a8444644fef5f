"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# failure: the machine cannot do its job. warning: its measurements are doubtful, or it will have
# problems later. note: an optional capability is missing.
Severity = Literal["ok", "note", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """The result of one check; the field names are the keys in the JSON output.

    Attributes:
        check: the name of what was checked.
        status: how serious the result is.
        found: the observed state or the error message.
        cause: the likely cause; empty where the status is "ok".
        fix: the command or action that solves the problem.
        see: a reference to documentation.
    """

    check: str
    status: Severity
    found: str
    cause: str = ""
    fix: str = ""
    see: str = ""
