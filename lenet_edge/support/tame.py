"""Text from files, made safe for a terminal.

Names of files, layers and classes may hold any characters.
"""

from __future__ import annotations

import re

# Characters that move the cursor, set colours or titles, or turn the direction of writing, and
# surrogates, which stand for bytes that are not UTF-8 and cannot be encoded.
_UNTAMED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def tame(text: str) -> str:
    """Return a text with its control characters replaced."""
    return _UNTAMED.sub("\N{REPLACEMENT CHARACTER}", text)
