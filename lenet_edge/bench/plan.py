"""Plans of a benchmark: the cells to measure, in rounds."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench.sampling import StopRule
from lenet_edge.errors import DataError
from lenet_edge.model_inputs import random_inputs, read_inputs
from lenet_edge.results.result_file import Skipped
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair

DEFAULT_BATCH_SIZES = (1, 8, 32, 128)
CellKey = tuple[str, str, int, int]


@dataclass(frozen=True)
class Cell:
    """One pair at one batch size and thread count."""

    pair: Pair
    batch_size: int
    num_threads: int

    @property
    def key(self) -> CellKey:
        """The file name, target, batch size and thread count; equals `Measurement.key`."""
        return self.pair.artifact.name, self.pair.target.name, self.batch_size, self.num_threads

    def __str__(self) -> str:
        name, target, batch_size, threads = self.key
        suffix = f", {threads} threads" if threads > 1 else ""
        return f"{name} on {target}, batch {batch_size}{suffix}"


def expand(
    pairs: Sequence[Pair],
    batch_sizes: Sequence[int],
    num_threads: Sequence[int] = (1,),
    own_batch: bool = False,
) -> tuple[Cell, ...]:
    """Return every cell of some pairs.

    Args:
        pairs: the pairs.
        batch_sizes: the batch sizes. A file with a fixed batch has cells of its own one only.
        num_threads: the thread counts.
        own_batch: also measure a file at its fixed batch if that is none of `batch_sizes`.
    """
    return tuple(
        Cell(pair, batch_size, threads)
        for pair in pairs
        for batch_size in _sizes(pair.artifact, batch_sizes, own_batch)
        for threads in num_threads
    )


def _sizes(artifact: Artifact, batch_sizes: Sequence[int], own_batch: bool) -> Sequence[int]:
    fixed = artifact.batch_size
    if fixed is None:
        return batch_sizes
    return (fixed,) if own_batch or fixed in batch_sizes else ()


def fixed_batches(cells: Sequence[Cell]) -> list[str]:
    """Return a line for each file that is measured at its fixed batch alone."""
    artifacts = [cell.pair.artifact for cell in cells]
    return [
        f"{name} is fixed to batches of {size}, so it is measured at no other size"
        for name, size in dict.fromkeys((file.name, file.batch_size) for file in artifacts)
        if size is not None
    ]


def refused_batches(pairs: Sequence[Pair], cells: Sequence[Cell]) -> list[Skipped]:
    """Return the pairs of files whose fixed batch is not among the cells, with the reason."""
    planned = {cell.pair for cell in cells}
    return [
        Skipped(
            pair.target.name,
            f"it is fixed to batches of {pair.artifact.batch_size}; measure it with --batch-size"
            f" {pair.artifact.batch_size}",
            pair.artifact.name,
        )
        for pair in pairs
        if pair not in planned and pair.artifact.batch_size is not None
    ]


def split_by_inputs(pairs: Sequence[Pair], inputs: Path | None) -> tuple[list[Pair], list[Skipped]]:
    """Separate the pairs whose inputs can be made from those that need a fact from the user.

    Args:
        pairs: the pairs.
        inputs: the .npz file with an array for each input; None for test images or random values.

    Returns:
        The pairs to measure, and the others with the reason.

    Raises:
        DataError: no pair can be measured.
    """
    reasons: dict[Artifact, DataError] = {}
    for artifact in dict.fromkeys(pair.artifact for pair in pairs):
        try:
            if inputs:
                read_inputs(inputs, artifact.inputs, artifact.batch_size or 1)
            else:
                random_inputs(artifact.inputs, 1, 0)
        except DataError as error:
            reasons[artifact] = error
    ready = [pair for pair in pairs if pair.artifact not in reasons]
    if reasons and not ready:
        artifact, reason = next(iter(reasons.items()))
        raise DataError(f"{artifact.name} cannot be measured: {reason}") from reason
    skipped = [
        Skipped(pair.target.name, str(reasons[pair.artifact]), pair.artifact.name)
        for pair in pairs
        if pair.artifact in reasons
    ]
    return ready, skipped


def pairs_for_pythons(
    artifacts: Sequence[Artifact], missing: Sequence[Skipped], pythons: Mapping[str, Path]
) -> tuple[list[Pair], list[Skipped]]:
    """Find the pairs that this Python cannot run and another interpreter can.

    Args:
        artifacts: all artifacts.
        missing: the targets that this Python cannot run.
        pythons: interpreters by the name of a target or a runtime.

    Returns:
        The pairs whose target or runtime has an interpreter, and the rest of `missing`.
    """
    pairs, rest = [], []
    for skipped in missing:
        target = get_target(skipped.target)
        if {target.name, target.runtime} & set(pythons):
            pairs += [
                Pair(artifact, target)
                for artifact in artifacts
                if artifact.format in target.formats
            ]
        else:
            rest.append(skipped)
    return pairs, rest


@dataclass(frozen=True)
class Plan:
    """The cells to measure, and the settings of the measurement.

    A round measures every cell once, each in a process of its own. The order changes from round
    to round, so that drift of the machine affects all cells alike. Further rounds measure the cells
    that the first ones left unclear; see `bench.extra_rounds`.

    Attributes:
        cells: the cells.
        rounds: the number of rounds of all cells. The processes of a cell in these rounds share the
            times of `stop`.
        seed: the seed of the orders.
        stop: the rule that ends the sampling of a cell.
        timeout_s: the time limit of one process in seconds.
        pythons: interpreters of other environments by the name of a target or a runtime; ""
            stands for all others.
        scenario: the scenario that the settings come from.
        inputs: the .npz file with an array for each input; None for test images or random values.
        quantile: the quantile of the latency that ranks the cells; None for the mean.
    """

    cells: tuple[Cell, ...]
    rounds: int = 3
    seed: int = 0
    stop: StopRule = field(default_factory=StopRule)
    timeout_s: float = 300.0
    pythons: Mapping[str, Path] = field(default_factory=dict)
    scenario: str | None = None
    inputs: Path | None = None
    quantile: float | None = 0.5

    def orders(self) -> list[list[Cell]]:
        """Return the cells of each round, in the order of measurement."""
        generator = random.Random(self.seed)
        return [generator.sample(self.cells, len(self.cells)) for _ in range(self.rounds)]

    def steps(self) -> list[Cell]:
        """Return the cells of all rounds, in the order of measurement."""
        return [cell for order in self.orders() for cell in order]

    def extra_order(self, cells: Sequence[Cell], number: int) -> list[Cell]:
        """Return the cells of a round beyond `rounds`, in the order of measurement."""
        return random.Random(f"{self.seed} {number}").sample(cells, len(cells))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that a result file records; a resumed run must have equal ones."""
        rule = dataclasses.asdict(self.stop)
        facts = {"rounds": self.rounds, "seed": self.seed, "scenario": self.scenario, **rule}
        return {**facts, "inputs": self.inputs.name} if self.inputs else facts

    def python_for(self, pair: Pair) -> Path | None:
        """Return the interpreter for the workers of a pair; None for this one."""
        for name in (pair.target.name, pair.target.runtime, ""):
            if name in self.pythons:
                return self.pythons[name]
        return None
