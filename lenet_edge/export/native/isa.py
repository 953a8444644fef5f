"""Instruction sets of the C files, and their kernels.

A kernel is a function of one name and signature in a file of its own: ``kernels/NAME.c`` in plain
C11, and ``kernels/NAME_ISA.c`` for an instruction set. ``kernels/common_ISA.c`` has the helpers of
an instruction set. To add an instruction set, add a row here and its kernel files.

The kernel NAME_int4 has weights of four bits. Its text is that of NAME, with the lines under
``#ifdef INT4``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KERNELS = Path(__file__).parent / "kernels"


@dataclass(frozen=True)
class Isa:
    """An instruction set that some kernels use.

    Attributes:
        name: the end of the names of its kernel files.
        guard: the condition of the preprocessor under which it can be compiled.
        target: the attribute "target" of its functions; "" if the compiler's flags select it.
        attribute: a macro of common.c instead, for compilers that differ in `target`.
        check: the condition in C that the processor has it; "" if the guard is enough.
        falls_back: the instruction sets whose kernels it uses where it has none, best first.
        prelude: text before its kernels, such as an #include.
    """

    name: str
    guard: str
    target: str = ""
    attribute: str = ""
    check: str = ""
    falls_back: tuple[str, ...] = ()
    prelude: str = ""

    @property
    def is_chosen_at_run_time(self) -> bool:
        """True if the compiled file asks the processor for it."""
        return bool(self.check)


_INT4 = "_int4"  # the suffix of the kernels with weights of four bits
_TYPEDEF = re.compile(r"^typedef [^;]*?\b(\w+)(?: __attribute__.*)?;", re.MULTILINE)


def _supports(*features: str) -> str:
    return " && ".join(f'__builtin_cpu_supports("{feature}")' for feature in features)


# Best first: the first instruction set whose condition holds is used.
ISAS = (
    Isa("cortex", "defined(CORTEX_M)"),  # MVE, DSP or neither, as the compiler's flags say
    Isa("wasm", "defined(__wasm_simd128__)", falls_back=("lanes",)),
    Isa(
        "vnni",
        "defined(CHOOSE_X86)",
        target="avx512f,avx512bw,avx512vl,avx512vnni",
        check=_supports("avx512f", "avx512bw", "avx512vl", "avx512vnni"),
        falls_back=("lanes",),
    ),
    Isa(
        "avxvnni",
        "defined(CHOOSE_X86) && !defined(__clang__) && __GNUC__ >= 12",
        target="avx2,avxvnni",
        check=_supports("avx2", "avxvnni"),
        falls_back=("avx2", "lanes"),
        prelude="#define VNNI 1\n",
    ),
    Isa(
        "avx2",
        "defined(CHOOSE_X86)",
        target="avx2,fma",
        check=_supports("avx2", "fma"),
        falls_back=("lanes",),
        prelude="#define VNNI 0\n",
    ),
    Isa("dotprod", "defined(CHOOSE_ARM64)", attribute="WITH_DOTPROD", check="has_dotprod()",
        falls_back=("neon",), prelude="#include <arm_neon.h>\n"),
    Isa("neon", "defined(CHOOSE_ARM64)", prelude="#include <arm_neon.h>\n"),
)  # fmt: skip


# Texts that precede a kernel: special cases in files of their own.
_PARTS = {"convolve": ("image",)}
# The vector kernels that several instruction sets share, each with its own helpers.
_SHARED = "lanes"

# Functions of one float: a comment, and the value for x. `kernels/function_float.c` applies them.
_FUNCTIONS = {
    "relu_float": (
        "The larger of x and 0.",
        "x > 0.0f ? x : 0.0f",
    ),
    "relu6_float": (
        "x, limited to 0 and 6.",
        "limit(x, 0.0f, 6.0f)",
    ),
    "relu_n1_to_1_float": (
        "x, limited to -1 and 1.",
        "limit(x, -1.0f, 1.0f)",
    ),
    "relu_0_to_1_float": (
        "x, limited to 0 and 1.",
        "limit(x, 0.0f, 1.0f)",
    ),
    "elu_float": (
        "x, and e to the power of x less 1 where it is negative.",
        "x > 0.0f ? x : exponential(x) - 1.0f",
    ),
    "hard_swish_float": (
        "x times a ramp from 0 at -3 to 1 at 3.",
        "x * limit(x + 3.0f, 0.0f, 6.0f) / 6.0f",
    ),
    "logistic_float": (
        "The logistic function.",
        "1.0f / (1.0f + exponential(-x))",
    ),
    "tanh_float": (
        "The hyperbolic tangent. Near zero, a series keeps the digits.",
        "x * x < 0.0025f ? x * (1.0f - x * x * (0.33333334f - x * x * 0.13333334f))\n"
        "                               : 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f)",
    ),
}


def _text(name: str) -> str | None:
    path = KERNELS / f"{name.replace(_INT4, '')}.c"
    if not path.exists():
        return None
    is_int4 = _INT4 in name
    text = _chosen(path.read_text(encoding="utf-8"), is_int4)
    return _renamed(text) if is_int4 else text


def _chosen(text: str, is_int4: bool) -> str:
    """Return C text as if ``#ifdef INT4`` were evaluated; other conditions stay."""
    lines: list[str] = []
    is_kept: list[bool | None] = []  # for each open condition; None for a condition that stays
    for line in text.splitlines(keepends=True):
        is_directive = line == "#ifdef INT4\n"  # or the #else or #endif of this condition
        if is_directive:
            is_kept.append(is_int4)
        elif line.startswith("#if"):
            is_kept.append(None)
        elif line.startswith("#else") and is_kept[-1] is not None:
            is_kept[-1], is_directive = not is_kept[-1], True
        elif line.startswith("#endif"):
            is_directive = is_kept.pop() is not None
        if not is_directive and False not in is_kept:
            lines.append(line)
    return "".join(lines)


def _renamed(text: str) -> str:
    """Return the text of a kernel as that of its int4 variant: what it defines gets a suffix."""
    names = re.findall(
        r"^(?:__attribute__\(.*\) )?(?:INLINE|KERNEL|static) [^(;={]*?(\w+)\(", text, re.MULTILINE
    )
    names += re.findall(r"^enum \{ (\w+)", text, re.MULTILINE)
    text = re.sub(r"\bstruct input\b", f"struct input{_INT4}", text)
    return _with_suffix(text, names + _TYPEDEF.findall(text), _INT4)


def _with_suffix(text: str, names: Sequence[str], suffix: str) -> str:
    """Return C text with a suffix at some names, except in comments."""
    parts = re.split(r"(/\*.*?\*/)", text, flags=re.DOTALL)  # every second part is a comment
    any_name = "|".join(dict.fromkeys(names))
    parts[::2] = [
        re.sub(rf"(?<!\.)(?<!struct )\b({any_name})\b", rf"\1{suffix}", part) for part in parts[::2]
    ]
    return "".join(parts)


def plain(kernel: str) -> str:
    """Return the text of a kernel in plain C11."""
    if kernel in _FUNCTIONS:
        comment, value = _FUNCTIONS[kernel]
        text = _text("function_float")
        assert text is not None
        return text.replace("COMMENT", comment).replace("FUNCTION", kernel).replace("VALUE", value)
    text = _text(kernel)
    assert text is not None, kernel
    return text


def variant(kernel: str, isa: Isa) -> str | None:
    """Return the text of a kernel for an instruction set, None if the plain one serves."""
    for name in (isa.name, *isa.falls_back):
        text = _text(f"{kernel}_{name}")
        if text is not None:
            parts = (variant(part, isa) for part in _PARTS.get(kernel, ()))
            return "\n".join([*(part for part in parts if part), text])
    return None


def helpers(isa: Isa) -> str:
    """Return the text that precedes the kernels of an instruction set."""
    texts = [_text(f"common_{name}") for name in (*isa.falls_back[::-1], isa.name)]
    return "\n".join([isa.prelude, *(text for text in texts if text)])


def compiled_levels(kernels: Sequence[str]) -> list[Isa]:
    """Return the instruction sets that are chosen at run time, best first, for some kernels."""
    return [
        isa
        for isa in ISAS
        if isa.is_chosen_at_run_time
        and any(
            _text(f"{kernel}_{name}") for kernel in kernels for name in (isa.name, _SHARED)
            if name == isa.name or name in isa.falls_back
        )
    ]  # fmt: skip


def at_level(text: str, isa: Isa) -> str:
    """Return C text for one instruction set: every function and type with a suffix."""
    names = re.findall(r"^(?:INLINE|KERNEL|static) [^(;={]*?(\w+)\(", text, re.MULTILINE)
    names += _TYPEDEF.findall(text)
    names += re.findall(r"^#define (\w+)", text, re.MULTILINE)
    text = _with_suffix(text, names, f"_{isa.name}")
    mark = isa.name.upper()
    text = re.sub(r"^(INLINE|KERNEL|static)\b(?! const)", rf"\1 {mark}", text, flags=re.MULTILINE)
    attribute = isa.attribute or f'__attribute__((target("{isa.target}")))'
    return f"/* ---- {isa.name} ---- */\n\n#define {mark} {attribute}\n\n{text}"


def selected(kernel: str) -> str:
    """Return the text of a kernel for the instruction sets that the preprocessor selects."""
    choices = [
        (isa, text)
        for isa in ISAS
        if not isa.is_chosen_at_run_time and (text := variant(kernel, isa)) is not None
    ]
    if not choices:
        return plain(kernel)
    parts: list[str] = []
    for number, (isa, text) in enumerate(choices):
        word = "elif" if number else "if"
        parts.append(f"#{word} !defined(PLAIN_C) && ({isa.guard})\n{text}")
    return "".join([*parts, f"#else\n{plain(kernel)}#endif\n"])


def selected_helpers(kernels: Sequence[str]) -> str:
    """Return the helpers of the instruction sets that the preprocessor selects for kernels."""
    parts: list[str] = []
    for isa in ISAS:
        text = helpers(isa).lstrip()
        is_used = any(variant(kernel, isa) is not None for kernel in kernels)
        if text and is_used and not isa.is_chosen_at_run_time:
            word = "elif" if parts else "if"
            parts.append(f"#{word} !defined(PLAIN_C) && ({isa.guard})\n{text}")
    return "".join([*parts, "#endif\n"]) if parts else ""
