"""The inventory fleet.toml: chosen boards, and errors in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet.inventory import Entry, read_inventory
from tests.conftest import LenetEdge

GOOD = """
[boards.pi5-a]
ssh = "pi@pi5-a.local"
python = "lenet/bin/python"
tags = ["kitchen", "pi5"]
[boards.zero]
ssh = "zero"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "fleet.toml").write_text(GOOD)
    return tmp_path / "fleet.toml"


def test_names_and_tags_select_boards(file: Path) -> None:
    first = Entry("pi5-a", "pi@pi5-a.local", 0, "lenet/bin/python", ("kitchen", "pi5"))
    second = Entry("zero", "zero", 1)
    assert read_inventory(file) == [first, second]
    assert read_inventory(file, ["pi5"]) == read_inventory(file, ["pi5-a"]) == [first]
    assert read_inventory(file, ["zero"]) == [second]  # its number does not depend on the selection
    with pytest.raises(LenetEdgeError, match="no board or tag named attic"):
        read_inventory(file, ["attic", "zero"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no \[boards.NAME\]"),
        ("boards = 3", r"no \[boards.NAME\]"),
        ("[boards]\na = 3", "board a: 3 is not a table"),
        ("[boards.a]\nssh = 'h'\ntags = [3]", r"board a: tags\[0\] is 3"),
        ("[boards.a]\nssh = 'h'\ntags = 'pi'", "board a: tags = 'pi'"),
        ("[boards.a]\nssh = 'h'\npython = true", "board a: python = True"),
        ('[boards.a]\nssh = "h\\u001b[2J"', "is not an address"),
        ('[boards.a]\nssh = "h"\npython = "a\\nb"', "is not a path"),
        ('[boards.a]\nssh = "h"\n"\\u001b[2J" = 1', "board a: .\\[2J = 1"),
        (f"[boards.{'a' * 300}]\nssh = 'h'", "is not a name"),
        ("a." * 100_000 + "a = 1", "line 1 has more than 100 dots"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("".join(f"[boards.b{n}]\nssh='h'\n" for n in range(5000)), "5,000 boards"),
        ("[boards.a]", "board a has no ssh = ADDRESS"),
        ("[boards.a]\nssh = 3", "board a: ssh = 3"),
        ("[boards.a]\nssh = 'h'\nhost = 'x'", "board a: host = 'x'"),
        ("[boards.a]\nssh = '-oProxyCommand=evil'", "is not an address"),
        ("[boards.a]\nssh = ''", "is not an address"),
        ('[boards."a b"]\nssh = "h"', "'a b' is not a name"),
        ('[boards."../x"]\nssh = "h"', "is not a name"),
        ("[boards", "Expected"),
    ],
)
def test_a_malformed_inventory_is_an_error_in_one_line(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(LenetEdgeError, match=message) as caught:
        read_inventory(tmp_path / "fleet.toml")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert "docs/fleet.md shows an example" in str(caught.value)


def test_a_missing_inventory(lenet_edge: LenetEdge) -> None:
    done = lenet_edge("fleet", "up")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: cannot read fleet.toml: No such file or directory;")
