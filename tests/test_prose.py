"""The check of the house style finds what it should."""

from __future__ import annotations

import pytest

from tests import prose


@pytest.mark.parametrize(
    "source",
    [
        '"""What a board gets."""',
        '"""Who comes second waits."""',
        'def f():\n    """Whether the file fits."""',
        'class A:\n    """Is it right?"""',
        "trials = 3",
        "def f(crew): ...",
        "class FirstTrial: ...",
    ],
)
def test_faults_are_found(source: str) -> None:
    assert prose.check_source(source)


def test_plain_docstrings_pass() -> None:
    source = '"""Archive for a board."""\ndef f(pair):\n    """Return what `pair` needs."""'
    assert prose.check_source(source) == []
