"""Clock reads between the steps of a C file, compiled in only to time its layers.

The exported file stays as it is. A copy of its text gets a clock read after each step of `run`, in
the variants for all instruction sets, and an array with the nanoseconds of each step.
"""

from __future__ import annotations

import ctypes
import dataclasses
import re
from collections.abc import Callable, Sequence
from itertools import repeat

from lenet_edge.errors import TargetError
from lenet_edge.runtimes._layer_probe import LayerProbe, LayerStep, medians, seconds_per_call
from lenet_edge.support.printable import make_printable

_ARRAY, _EMPTY = "lenet_edge_layer_ns", "lenet_edge_empty_layers"
_EMPTY_READS = 1000
_BEGIN = "  lenet_edge_last_ns = lenet_edge_now();"
_HOOKS = f"""
#include <time.h>
long long {_ARRAY}[%d];
static long long lenet_edge_last_ns;
static long long lenet_edge_now(void) {{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}}
static void lenet_edge_layer(int n) {{
  long long now = lenet_edge_now();
  {_ARRAY}[n] += now - lenet_edge_last_ns;
  lenet_edge_last_ns = now;
}}
void {_EMPTY}(void) {{
  lenet_edge_last_ns = lenet_edge_now();
  for (int n = 0; n < {_EMPTY_READS}; n++)
    lenet_edge_layer(%d);
}}
"""
_RUN = re.compile(
    rb"^(static (?:\w+ )?void run(?:_\w+)?\([^;{)]*\) \{\n)(.*?)^\}$", re.MULTILINE | re.DOTALL
)
_DECLARATION = re.compile(r"_Alignas|int \w+\[|\(void\)")
_COMMENT = re.compile(r"(?P<kind>[A-Z0-9_]+) (?P<index>\d+): ")
# A layer in the comment at the top of a C file.
LISTED_LAYER = re.compile(
    r"^ \* - (?P<kind>\w+) (?P<name>.*): (?P<shape>[0-9x ]*), (?P<parameters>[0-9,]+) parameters,"
    r" (?P<macs>[0-9,]+) MACs$",
    re.MULTILINE,
)


@dataclasses.dataclass(frozen=True)
class HookedSource:
    """Text of a C file with clock reads, and its steps."""

    content: bytes
    steps: tuple[LayerStep, ...]


def add_hooks(content: bytes, name: str) -> HookedSource:
    """Add a clock read after each step of a C file.

    Raises:
        TargetError: the file has no steps in the form that `export` writes.
    """
    statements: list[tuple[str, str]] = []

    def with_hooks(match: re.Match[bytes]) -> bytes:
        nonlocal statements
        statements, body = _hooked_body(match[2].decode("utf-8", "replace"))
        return match[1] + body.encode() + b"}"

    hooked = _RUN.sub(with_hooks, content)
    first = re.search(rb"^#include <string.h>$", hooked, re.MULTILINE)
    if not statements or first is None:
        raise TargetError(f"{name} has no steps that can be timed; export it again")
    hooks = (_HOOKS % (len(statements) + 1, len(statements))).encode()
    comment = content.partition(b"*/")[0].decode("utf-8", "replace")
    layers = [(match["kind"], match["name"]) for match in LISTED_LAYER.finditer(comment)]
    steps = _steps(statements, layers)
    return HookedSource(hooked[: first.end()] + hooks + hooked[first.end() :], steps)


def _hooked_body(body: str) -> tuple[list[tuple[str, str]], str]:
    """Return the comment and the text of each statement, and the body with clock reads."""
    statements: list[tuple[str, str]] = []
    lines: list[str] = []
    comment, pending = "", ""
    for line in body.splitlines():
        text = line.strip()
        if not pending and (text.startswith(("/*", "#")) or not text):
            comment = text.removeprefix("/* ").removesuffix(" */") or comment
            lines.append(line)
            continue
        pending += f" {text}"
        is_declaration = _DECLARATION.match(pending.strip()) is not None
        if not statements and not is_declaration and _BEGIN not in lines:
            lines.append(_BEGIN)
        lines.append(line)
        if not text.endswith(";"):
            continue
        if not is_declaration:
            lines.append(f"  lenet_edge_layer({len(statements)});")
            statements.append((comment, pending.strip()))
            comment = ""
        pending = ""
    return statements, "\n".join([*lines, ""])


def _steps(
    statements: Sequence[tuple[str, str]], layers: Sequence[tuple[str, str]]
) -> tuple[LayerStep, ...]:
    """Return the steps, each with the layers that it computes.

    A step with the number of a layer computes this layer, and those after it up to the next step
    with a number: activations, pooling and reshaping are fused into it.
    """
    numbers = [_layer_number(*statement, layers) for statement in statements]
    steps: list[LayerStep] = []
    for position, (comment, text) in enumerate(statements):
        kernel = re.search(r"\w+(?=\()", text.removeprefix("for (int n = 0; "))
        operator = kernel[0] if kernel else "step"
        number = numbers[position]
        later = [each for each in numbers[position + 1 :] if each is not None]
        end = min((each for each in later), default=len(layers))
        names = () if number is None else tuple(name for _, name in layers[number:end])
        title = names[0] if names else comment or operator
        if not names and not comment and later:
            title = f"{operator} before {layers[end][1]}"
        steps.append(LayerStep(make_printable(title), operator, names))
    return tuple(steps)


def _layer_number(comment: str, text: str, layers: Sequence[tuple[str, str]]) -> int | None:
    """Return the index of the first layer that a statement computes; None if it computes none."""
    operator = _COMMENT.match(comment)
    if operator:
        index = int(operator["index"])
        return index if index < len(layers) and layers[index][0] == operator["kind"] else None
    if text.startswith(("memcpy", "pad(")) or comment:
        return None
    weights = re.search(r"\b(?:conv|dense)(\d+)_weights\b", text)
    pooled = re.search(r"\bafter(\d+)\);$", text)
    number = weights or pooled
    return int(number[1]) if number and int(number[1]) < len(layers) else None


class HookProbe(LayerProbe):
    """Times of the steps of a C file that was built with clock reads.

    Args:
        steps: the steps.
        library: the loaded library.
        infer: the call of its function.
        call: the same call with no images.
        images: the number of images in a call.
        close: unloads the library.
    """

    method = "clock reads between the steps"

    def __init__(
        self,
        steps: tuple[LayerStep, ...],
        library: ctypes.CDLL,
        infer: Callable[[], object],
        call: Callable[[], object],
        images: int,
        close: Callable[[], object],
    ) -> None:
        self.steps, self._infer, self._call = steps, infer, call
        self._images, self._close = images, close
        self._nanoseconds = (ctypes.c_longlong * (len(steps) + 1)).in_dll(library, _ARRAY)
        self._empty = library[_EMPTY]
        self._empty.restype = None

    def sample(self, calls: int) -> list[float]:
        """Return the seconds of a call, and of each step, less those of a clock read."""
        call_s = seconds_per_call(self._call, calls)
        self._infer()
        ctypes.memset(self._nanoseconds, 0, ctypes.sizeof(self._nanoseconds))
        for _ in repeat(None, calls):
            self._infer()
        self._empty()
        *steps, empty = self._nanoseconds
        clock = self._images * empty / _EMPTY_READS
        return [call_s, *(max(0.0, total / calls - clock) / 1e9 for total in steps)]

    def split(self, rows: Sequence[Sequence[float]]) -> tuple[float | None, list[float]]:
        """Return the median of a call, and of each step."""
        call_s, *steps = medians(rows)
        return call_s, steps

    def close(self) -> None:
        """Unload the library."""
        del self._nanoseconds, self._empty
        self._close()
