"""Files of class labels, in the layouts that training tools write."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lenet_edge.errors import DataError
from lenet_edge.support.regular_file import open_regular_file

MAX_BYTES = 2**20


def read_labels(path: Path) -> tuple[str, ...]:
    """Read the class labels in a text or JSON file, in the order of the model's outputs.

    Args:
        path: one label in each line, "0 label" in each line (Teachable Machine), a JSON list, or a
            JSON object from numbers to labels (Hugging Face's ``id2label``).

    Raises:
        DataError: the file is missing, too large, no text, or holds no labels.
    """
    try:
        with open_regular_file(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        labels = parse_labels(content.decode("utf-8-sig"))
        if not labels:
            raise ValueError("it is empty")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give a file with one label in each line") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the file") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} holds no labels ({error}); write one label in each line"
        ) from error
    return labels


def parse_labels(text: str) -> tuple[str, ...]:
    """Return the labels in the text of a file; see `read_labels` for the layouts.

    Raises:
        ValueError: the text is JSON of another kind, or its numbers do not count from 0.
    """
    if text.lstrip()[:1] in ("[", "{"):
        return _from_json(json.loads(text))
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [re.fullmatch(rf"{number}[ \t:,]+(\S.*)", line) for number, line in enumerate(lines)]
    if lines and all(numbered):
        return tuple(match[1] for match in numbered if match)
    return tuple(lines)


def _from_json(facts: object) -> tuple[str, ...]:
    if isinstance(facts, dict):
        facts = facts.get("id2label", facts)
    if isinstance(facts, dict):
        by_number = {int(key): name for key, name in facts.items()}
        if sorted(by_number) != list(range(len(by_number))):
            raise ValueError("its numbers do not count from 0")
        facts = [by_number[number] for number in range(len(by_number))]
    if not isinstance(facts, list) or not all(isinstance(name, str) for name in facts):
        raise ValueError("it is no list of texts")
    return tuple(facts)
