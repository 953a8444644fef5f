"""The networks that `search` can try, and the choice of the next one by Optuna.

All choices of a run are determined by its seed and by the results so far. The sampler is therefore
created again for each candidate, with a seed of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lenet_edge.errors import LenetEdgeError, UsageError
from lenet_edge.networks import Architecture, Block
from lenet_edge.search.cost import Cost, estimate_cost
from lenet_edge.support.files import atomic_write

MAX_BLOCKS = 4
_WIDTHS = (4, 8, 12, 16, 24, 32, 48)
_KERNELS = (3, 5)
_DENSE = (0, 16, 32)
_SMALLEST = Architecture((Block(_WIDTHS[0], 3, 2), Block(_WIDTHS[0], 3, 2)))
_RANDOM_SHARE = 3  # one candidate of so many is drawn at random, before the sampler has results
_SETTINGS = "settings"


@dataclass(frozen=True)
class CostLimits:
    """Upper bounds of the costs; None is no bound."""

    num_bytes: int | None
    instructions: int | None

    def allow(self, cost: Cost) -> bool:
        """Tell whether a cost is within both bounds."""
        return (self.num_bytes is None or cost.num_bytes <= self.num_bytes) and (
            self.instructions is None or cost.instructions <= self.instructions
        )


@dataclass(frozen=True)
class Candidate:
    """A network that the search tries in one precision, with its estimated cost."""

    architecture: Architecture
    precision: str
    cost: Cost


def _open_study(journal: Path) -> Any:
    """Open or create Optuna's study in a journal file that no other process uses."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # A process that was killed may leave half a line and Optuna's lock.
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.exists() and not (content := journal.read_bytes()).endswith(b"\n"):
        with atomic_write(journal) as temporary:
            temporary.write_bytes(content[: content.rfind(b"\n") + 1])
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name="search",
        directions=("maximize", "minimize", "minimize"),
        load_if_exists=True,
    )


class CandidateStudy:
    """The candidates of a search with their first accuracies, kept in a journal file.

    Args:
        journal: the file.
        settings: everything that the search depends on.
        limits: the bounds of the costs.
        precisions: the precisions to choose from.
        image_shape: height, width and channels.
        num_classes: the number of classes.
        num_networks: the number of candidates in all.
        seed: the seed of all choices.
    """

    def __init__(
        self,
        journal: Path,
        settings: Mapping[str, Any],
        limits: CostLimits,
        precisions: Sequence[str],
        image_shape: tuple[int, int, int],
        num_classes: int,
        num_networks: int,
        seed: int,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._limits, self._seed = limits, seed
        self._image_shape, self._num_classes = image_shape, num_classes
        # With one result, the sampler would choose the same candidate again.
        self._num_random = max(2, num_networks // _RANDOM_SHARE)
        self._precisions = self._possible(precisions)
        try:
            self._study = _open_study(journal)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LenetEdgeError(
                f"{journal} is damaged ({error}); start again without --resume in another folder"
            ) from error
        before = self._study.user_attrs.get(_SETTINGS)
        if before is None:
            self._study.set_user_attr(_SETTINGS, dict(settings))
        else:
            for name, value in settings.items():
                if before.get(name, value) != value:  # a journal of an earlier version lacks some
                    raise UsageError(
                        f"the search in {journal.parent} was started with {name}"
                        f" {before[name]}, not {value}; resume it with the same options"
                    )
        # A killed process leaves a candidate without a result. It is chosen again.
        for choice in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(choice.number, state=optuna.trial.TrialState.FAIL)

    def _cost(self, architecture: Architecture, precision: str) -> Cost:
        return estimate_cost(architecture, precision, self._image_shape, self._num_classes)

    def _possible(self, precisions: Sequence[str]) -> tuple[str, ...]:
        """Return the precisions in which the smallest network is within the bounds.

        Raises:
            UsageError: there is none.
        """
        costs = {precision: self._cost(_SMALLEST, precision) for precision in precisions}
        possible = tuple(name for name, cost in costs.items() if self._limits.allow(cost))
        if not possible:
            least = min(costs.values(), key=lambda cost: cost.num_bytes)
            raise UsageError(
                f"no network is within the bounds; the smallest has {least.num_bytes:,} bytes and"
                f" {least.instructions:,} instructions, so allow more"
            )
        return possible

    def results(self) -> list[tuple[Candidate, float]]:
        """Return the candidates that have a result, in order, with their first accuracy."""
        import optuna

        completed = self._study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
        return [(self._candidate(choice.params), choice.values[0]) for choice in completed]

    def ask(self) -> tuple[Any, Candidate]:
        """Choose the next candidate; return Optuna's trial with it."""
        import optuna

        number = len(self.results())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.sampler = optuna.samplers.TPESampler(
                seed=(1000 * self._seed + number) % 2**32, n_startup_trials=self._num_random
            )
        choice = self._study.ask(self._distributions())
        return choice, self._candidate(choice.params)

    def tell(self, choice: Any, candidate: Candidate, accuracy: float) -> None:
        """Record the first accuracy of a candidate."""
        cost = candidate.cost
        self._study.tell(choice, (accuracy, cost.num_bytes, cost.instructions))

    def _distributions(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution as Choice

        choices: dict[str, Any] = {
            "precision": Choice(self._precisions),
            "blocks": Choice(tuple(range(2, MAX_BLOCKS + 1))),
            "head": Choice(("average", "flatten")),
            "dense": Choice(_DENSE),
        }
        for n in range(MAX_BLOCKS):
            choices[f"width{n}"] = Choice(_WIDTHS)
            choices[f"kernel{n}"] = Choice(_KERNELS)
            choices[f"padding{n}"] = Choice(("same", "valid"))
            if n > 0:
                choices[f"stride{n}"] = Choice((1, 2))
                choices[f"kind{n}"] = Choice(("plain", "depthwise", "residual"))
        return choices

    def _candidate(self, values: Mapping[str, Any]) -> Candidate:
        """Return the candidate of Optuna's values, narrowed until it is within the bounds."""
        precision = str(values["precision"])
        architecture = self._architecture(values)
        while not self._limits.allow(cost := self._cost(architecture, precision)):
            architecture = _narrow(architecture)
        return Candidate(architecture, precision, cost)

    def _architecture(self, values: Mapping[str, Any]) -> Architecture:
        size = min(self._image_shape[:2])
        blocks = []
        for n in range(values["blocks"]):
            kind = "plain" if n == 0 else values[f"kind{n}"]
            stride = 2 if n == 0 else values[f"stride{n}"]  # the first block is the stem
            kernel = values[f"kernel{n}"]
            # Images may be too small for a block without padding.
            padding = values[f"padding{n}"]
            if kind == "residual" or size <= kernel:
                padding = "same"
            size = -(-(size - (kernel - 1 if padding == "valid" else 0)) // stride)
            width, depthwise = values[f"width{n}"], kind == "depthwise"
            blocks.append(Block(width, kernel, stride, depthwise, kind == "residual", padding))
        dense = (values["dense"],) if values["dense"] else ()
        return Architecture(tuple(blocks), values["head"], dense)


def _narrow(architecture: Architecture) -> Architecture:
    """Return a smaller network: three quarters of each width, then fewer parts."""
    if any(block.width > _WIDTHS[0] for block in architecture.blocks) or architecture.dense:
        blocks = tuple(
            replace(block, width=max(_WIDTHS[0], block.width * 3 // 4 // 4 * 4))
            for block in architecture.blocks
        )
        units = tuple(size // 2 for size in architecture.dense if size >= 16)
        return Architecture(blocks, architecture.head, units)
    if architecture.head == "flatten":
        return Architecture(architecture.blocks, "average")
    if len(architecture.blocks) > 2:
        return Architecture(architecture.blocks[:-1])
    return _SMALLEST
