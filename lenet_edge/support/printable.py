"""Replacement of control characters in text from files, before a terminal shows it.

Names of files, layers and classes may contain any characters.
"""

from __future__ import annotations

import re

# Characters that move the cursor, set colours or titles, or change the direction of writing, and
# surrogates, which stand for bytes that are not UTF-8 and cannot be encoded.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def make_printable(text: str) -> str:
    """Return the text with U+FFFD in place of each control character."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
