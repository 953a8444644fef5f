"""Instructions that one inference executes on an emulated processor, and the memory it needs.

A count is no latency. It is equal in every run of the same program, on any machine.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from lenet_edge.support import typed_json


@dataclass(frozen=True)
class InstructionCount:
    """Executed instructions of one file on one emulated processor.

    Attributes:
        artifact: name of the file.
        artifact_sha256: hash of the file.
        target: name of the target: "cortex-m4", or "native-cpu" for a program of an operating
            system.
        cpu: name of the emulated processor: "cortex-m4", "x86-64", "arm64-dotprod".
        instructions: mean of the instructions of one inference.
        images: number of inferences that were counted.
        compiler: name and version of the compiler; None if the program was not compiled for this.
        flags: flags of the compiler.
        counter: name and version of the program that counted.
        layers: instructions of each layer by its name, in order; None if they were not told apart.
        flash_bytes: bytes of flash by section; None on a processor with an operating system.
        ram_bytes: bytes of variables in RAM, without the stack.
        stack_bytes: highest number of bytes of stack in use.
        inputs: "test images", "random", or the name of a file.
    """

    artifact: str
    artifact_sha256: str
    target: str
    cpu: str
    instructions: float
    images: int
    compiler: str | None = None
    flags: tuple[str, ...] = ()
    counter: str = ""
    layers: dict[str, float] | None = None
    flash_bytes: dict[str, int] | None = None
    ram_bytes: int | None = None
    stack_bytes: int | None = None
    inputs: str = field(default="test images", kw_only=True)

    @property
    def key(self) -> tuple[str, str, str]:
        """File, target and processor, which identify a count in two runs."""
        return self.artifact, self.target, self.cpu

    @property
    def flash_total_bytes(self) -> int | None:
        """Bytes of flash in all sections."""
        return None if self.flash_bytes is None else sum(self.flash_bytes.values())

    @property
    def ram_total_bytes(self) -> int | None:
        """Bytes of variables and stack."""
        if self.ram_bytes is None or self.stack_bytes is None:
            return None
        return self.ram_bytes + self.stack_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the count as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> InstructionCount:
        """Return the count that `to_json` wrote.

        Raises:
            ValueError: a value has a wrong type or is impossible.
        """
        count = cls(**{**facts, "flags": tuple(facts["flags"])})
        typed_json.check_types(count)
        sizes = [count.instructions, *(count.layers or {}).values()]
        sizes += [*(count.flash_bytes or {}).values(), count.ram_bytes or 0, count.stack_bytes or 0]
        if count.images < 1 or not all(math.isfinite(size) and size >= 0 for size in sizes):
            raise ValueError(f"{count.artifact} has a count that is impossible")
        return count
