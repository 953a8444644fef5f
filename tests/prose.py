"""Check of docstrings and names against the house style: ``python -m tests.prose``.

The glossary in ARCHITECTURE.md is the list of terms. `make lint` runs this check.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("lenet_edge", "benchmarks", "tests")
# A docstring names its subject first. A question word hides it.
QUESTION_WORDS = {"what", "who", "whose", "how", "which", "whether", "where", "when", "why"}
# Former names of things in the glossary, and the term to use.
RETIRED = {
    "trial": "process samples",
    "trials": "process samples",
    "crew": "fleet session",
    "truth": "expected",
    "theirs": "foreign",
}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def documented_nodes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring."""
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each definition, argument and assigned variable.

    Fields of dataclasses are left out, because they are keys of JSON files.
    """
    fields = {
        statement.target
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in fields:
            yield node.lineno, node.id


def check_source(text: str) -> list[tuple[int, str]]:
    """Return the line and the fault of each docstring and name that breaks a rule."""
    tree = ast.parse(text)
    faults = []
    for line, docstring in documented_nodes(tree):
        first = docstring.split(maxsplit=1)[0].strip(",:;").lower()
        if first in QUESTION_WORDS or docstring.split("\n\n")[0].rstrip().endswith("?"):
            faults.append((line, f"the docstring opens with {first!r}; name the subject first"))
    for line, name in identifiers(tree):
        for word in re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()):
            if word in RETIRED:
                faults.append((line, f"{name}: the glossary says {RETIRED[word]!r}"))
    return faults


def check_glossary() -> list[str]:
    """Return the types in the glossary that do not exist, and class names defined twice."""
    table = (ROOT / "ARCHITECTURE.md").read_text().split("| term |")[1].split("\n\n")[0]
    faults = []
    for path in re.findall(r"\| `([\w.]+)` \|$", table, re.MULTILINE):
        module, name = path.rsplit(".", 1)
        if not hasattr(importlib.import_module(f"lenet_edge.{module}"), name):
            faults.append(f"ARCHITECTURE.md: there is no {path}; correct the glossary")
    places = defaultdict(list)
    for file in sorted((ROOT / "lenet_edge").rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(file.relative_to(ROOT)))
    for name, files in places.items():
        if len(files) > 1:
            faults.append(f"class {name} is defined in {' and '.join(files)}; rename one")
    return faults


def main() -> int:
    """Print each fault and return the exit status."""
    faults = check_glossary()
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            place = path.relative_to(ROOT)
            faults += [f"{place}:{line}: {text}" for line, text in check_source(path.read_text())]
    print(*faults, f"{len(faults)} faults of prose", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
