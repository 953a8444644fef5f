"""Search for small networks: train candidates, stop the worse halves, keep the Pareto front."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_edge.artifacts.file_check import check_path_encoding
from lenet_edge.errors import (
    DataError,
    LenetEdgeError,
    MissingPackageError,
    TargetError,
    UsageError,
)
from lenet_edge.flows.console import Console, Step, stop_between_steps
from lenet_edge.search.cost import PRECISIONS
from lenet_edge.search.front import Score, choose_best, front_of
from lenet_edge.search.space import Candidate, CandidateStudy, CostLimits
from lenet_edge.support.files import atomic_write
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.train.recipe import Recipe, choose_recipe
from lenet_edge.train.saved_state import (
    STATE_FILE,
    History,
    TrainingSettings,
    TrainingState,
    finished_training,
    training_folder,
)

if TYPE_CHECKING:
    from lenet_edge.artifacts.artifact import Artifact
    from lenet_edge.data.dataset import Dataset
    from lenet_edge.train.loop import TrainingProgress

SCHEMA_VERSION = 1
JOURNAL = "search.journal"
RESULT = "search.json"
PICTURE = "search.png"
CORE = "cortex-m4"
_NETWORKS = "network-*"
EPOCHS = 24
_MAX_ROUNDS = 3  # a candidate trains for a quarter, a half and all of the epochs


@dataclass(frozen=True)
class SearchSettings:
    """Everything that a search depends on, besides the images."""

    max_bytes: int | None = None
    max_instructions: int | None = None
    min_accuracy: float | None = None
    precisions: tuple[str, ...] = ("int8",)
    num_networks: int = 16
    epochs: int = EPOCHS
    seed: int = 1


class _RoundOver(Exception):
    """A candidate has trained for the epochs of the round."""


def search(
    output_dir: Path,
    console: Console,
    settings: SearchSettings = SearchSettings(),
    dataset: str = "mnist",
    data_dir: Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Search for networks within bounds, and write the Pareto front of accuracy and costs.

    1. Optuna's sampler chooses candidates by the accuracy and the costs of those before. Each is
       trained for a quarter of the epochs.
    2. The better half continues from its weights to half of the epochs, and of these the better
       half to the end. "Better" is by Pareto front, then by accuracy on held-out training images.
    3. The instructions of the finished networks are counted, if compiler and emulator are here.

    Args:
        output_dir: the folder for checkpoints, search.json and search.png.
        console: the display.
        settings: the bounds and the size of the search.
        dataset: see `datasets.load`.
        data_dir: see `datasets.load`.
        resume: continue a search that was interrupted; it ends as it would have.

    Returns:
        The content of search.json.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
        UsageError: no network is within the bounds, or the folder holds another search.
        DataError: there are too few images to hold some out.
        MissingPackageError: Optuna or matplotlib is not installed.
        LenetEdgeError: a training failed.
    """
    for package, extra in (("optuna", "search"), ("matplotlib", "report")):
        if find_spec(package) is None:
            raise MissingPackageError(package, extra)
    for precision in settings.precisions:
        if precision not in PRECISIONS:
            raise UsageError(f"search has no precision {precision}; choose of {PRECISIONS}")
    check_path_encoding(output_dir)
    from lenet_edge.flows import datasets

    images = datasets.load_and_describe(console, dataset, data_dir)
    with console.alone_in(output_dir):
        run = _SearchRun(output_dir, console, settings, *images, resume)
        try:
            with stop_between_steps() as stop_if_pressed:
                return run.run(stop_if_pressed)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Stopped; go on with the same command and --resume") from None


class _SearchRun:
    """One search in a folder."""

    def __init__(
        self,
        folder: Path,
        console: Console,
        settings: SearchSettings,
        training: Dataset,
        test: Dataset,
        resume: bool,
    ) -> None:
        self._folder, self._console, self._settings = folder, console, settings
        self._training, self._test = training, test
        self._step: Step = Step(0, lambda done, total, text: None)
        self._stop: Callable[[], None] = lambda: None
        journal = folder / JOURNAL
        elsewhere = "name another folder with --output-dir"
        if journal.exists() and not resume:
            raise UsageError(f"{folder} holds a search; continue it with --resume, or {elsewhere}")
        if resume and not journal.exists():
            raise UsageError(f"there is no search in {folder}; start one without --resume")
        # A new network would get the record of an old one with the same number.
        if not resume and any(folder.glob(_NETWORKS)):
            raise UsageError(f"{folder} holds the networks of another search; {elsewhere}")
        recipe, adaptation = choose_recipe("best", len(training), settings.epochs)
        if adaptation:
            console.note(adaptation)
        self._num_held_out = min(recipe.validation_images, len(training) // 10)
        if self._num_held_out == 0:
            raise DataError(
                "a search holds out a tenth of the training images; give at least 10 of them"
                f" instead of {len(training)}"
            )
        # With the momentum of `best`, the average of a few epochs would contain initial weights.
        self._recipe: Recipe = dataclasses.replace(recipe, name="search", ema=0.99)
        # The epochs that a candidate has trained for at the end of each round.
        self._goals = sorted({max(1, recipe.epochs // 2**n) for n in range(_MAX_ROUNDS)})
        folder.mkdir(parents=True, exist_ok=True)
        self._study = CandidateStudy(
            journal,
            {**dataclasses.asdict(settings), "precisions": list(settings.precisions),
             "dataset": training.name, "images": TrainingSettings().on(training).data_sha256[:12]},
            CostLimits(settings.max_bytes, settings.max_instructions),
            settings.precisions,
            training.image_shape,
            len(training.class_names),
            settings.num_networks,
            settings.seed,
        )  # fmt: skip

    def run(self, stop_if_pressed: Callable[[], None]) -> dict[str, Any]:
        """Train the candidates round by round, and write the result."""
        self._console.note("Loading TensorFlow ...")
        counts = [max(1, self._settings.num_networks >> n) for n in range(len(self._goals))]
        starts = [0, *self._goals[:-1]]
        rounds = list(zip(counts, starts, self._goals, strict=True))
        total = sum(count * (goal - start) for count, start, goal in rounds)
        with self._console.progress_bar("Search", total) as step:
            self._step, self._stop = step, stop_if_pressed
            candidates = self._first_round()
            left = _unique(candidates)
            for count, start, goal in rounds[1:]:
                scores = [
                    _score(candidates[number], self._accuracies(number)[start - 1])
                    for number in left
                ]
                left = [left[index] for index in choose_best(scores, count)]
                for number in left:
                    self._train(number, candidates[number], start, goal)
            facts = self._describe(candidates, left)
        with atomic_write(self._folder / RESULT) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        from lenet_edge.report.plots import plot_search

        plot_search(facts, self._folder / PICTURE)
        return facts

    def _first_round(self) -> list[Candidate]:
        done = self._study.results()
        goal = self._goals[0]
        results = dict(done)
        candidates = [candidate for candidate, _ in done]
        for number, candidate in enumerate(candidates):
            if candidate in candidates[:number]:
                self._skip(goal, f"{_name(number)} equals an earlier network")
            else:  # again, if somebody deleted its record
                self._train(number, candidate, 0, goal)
        while len(candidates) < self._settings.num_networks:
            choice, candidate = self._study.ask()
            number = len(candidates)
            if candidate in results:
                accuracy = results[candidate]
                self._skip(goal, f"{_name(number)} equals an earlier network")
            else:
                self._train(number, candidate, 0, goal)
                accuracy = self._accuracies(number)[goal - 1]
            self._study.tell(choice, candidate, accuracy)
            results[candidate] = accuracy
            candidates.append(candidate)
        return candidates

    def _skip(self, epochs: int, text: str) -> None:
        for _ in range(epochs):
            self._step(text)

    def _train(self, number: int, candidate: Candidate, start: int, goal: int) -> None:
        """Train a candidate in the round from epoch `start` to `goal`."""
        from lenet_edge.flows import recorded_training

        import tensorflow as tf  # isort: skip

        tf.get_logger().setLevel("ERROR")  # it warns of the compilation of each network
        checkpoint = self._checkpoint(number)
        history = self._history(number)
        done = len(history.epochs) if history else 0
        self._skip(min(done, goal) - start, f"{_name(number)}: done before")
        self._step.extend(max(0, start - done))  # somebody deleted its record
        if history and done >= goal and (goal < self._goals[-1] or finished_training(checkpoint)):
            history.save(training_folder(checkpoint))  # a killed process may have left an older one
            return

        def report(progress: TrainingProgress) -> None:
            if progress.accuracy is not None:
                self._step(f"{_name(number)}: {progress.accuracy:.2%}")
                if goal <= progress.epoch < self._goals[-1]:
                    raise _RoundOver
            self._stop()

        settings = TrainingSettings(
            self._recipe,
            self._settings.seed,
            network=candidate.architecture,
            quantize="" if candidate.precision == "float32" else candidate.precision,
        )
        resume = (training_folder(checkpoint) / STATE_FILE).exists()
        try:
            recorded_training.train(
                checkpoint, self._training, self._test, settings, resume, report
            )
        except _RoundOver:
            pass
        finally:
            tf.keras.backend.clear_session()  # the graphs of many networks would fill the memory

    def _checkpoint(self, number: int) -> Path:
        return self._folder / f"{_name(number)}.keras"

    def _history(self, number: int) -> History | None:
        """Return the history of a candidate: that of its saved state until it is finished."""
        checkpoint = self._checkpoint(number)
        folder = training_folder(checkpoint)
        try:
            if (folder / STATE_FILE).exists():
                return TrainingState.load(folder).history
            return finished_training(checkpoint)
        except LenetEdgeError as error:
            raise LenetEdgeError(f"{error}; delete the folder {folder}") from error

    def _accuracies(self, number: int) -> list[float]:
        history = self._history(number)
        return [epoch["accuracy"] for epoch in history.epochs] if history else []

    def _describe(self, candidates: Sequence[Candidate], left: Sequence[int]) -> dict[str, Any]:
        can_count = self._can_count()
        self._step.extend(len(left) if can_count else 0)
        points = [self._point(number, candidates[number], can_count) for number in left]
        front = front_of(
            [
                Score(
                    point["held_out_accuracy"], point["weight_bytes"],
                    point["instructions"] or point["estimated_instructions"],
                )
                for point in points
            ]
        )  # fmt: skip
        for index, point in enumerate(points):
            point["on_front"] = index in front
        enough = [point for point in points if point["is_accurate_enough"]]
        smallest = min(enough, key=lambda point: point["weight_bytes"], default=None)
        stopped = []
        for number in _unique(candidates):
            if number not in left:
                accuracies = self._accuracies(number)
                stopped.append(
                    {
                        **_facts(number, candidates[number]),
                        "epochs": len(accuracies),
                        "held_out_accuracy": accuracies[-1],
                    }
                )
        return {
            "schema_version": SCHEMA_VERSION,
            "settings": dataclasses.asdict(self._settings),
            "dataset": self._training.name,
            "num_held_out": self._num_held_out,
            "num_tried": len(_unique(candidates)),
            "smallest": smallest and smallest["name"],
            "points": sorted(points, key=lambda point: point["weight_bytes"]),
            "stopped": stopped,
        }

    def _point(self, number: int, candidate: Candidate, can_count: bool) -> dict[str, Any]:
        checkpoint, least = self._checkpoint(number), self._settings.min_accuracy
        history = History.load(training_folder(checkpoint))
        accuracy = history.epochs[-1]["accuracy"]
        return {
            **_facts(number, candidate),
            "checkpoint": checkpoint.name,
            "instructions": self._count(number, candidate) if can_count else None,
            "held_out_accuracy": accuracy,
            "test_accuracy": history.test_accuracy,
            "is_accurate_enough": least is None or accuracy >= least,
        }

    def _can_count(self) -> bool:
        """Return True if the compiler and the emulator are installed; if not, say so."""
        from lenet_edge.microcontrollers.emulator import find_emulator
        from lenet_edge.microcontrollers.toolchain import find_toolchain

        try:
            find_toolchain()
            find_emulator()
        except TargetError as error:
            self._console.note(f"The instructions are estimates: {error}")
            return False
        return True

    def _count(self, number: int, candidate: Candidate) -> float | None:
        """Count the instructions of the C file; None if it cannot run on the emulated board."""
        from lenet_edge.bench.instructions.count import count_instructions
        from lenet_edge.export import exporter

        self._stop()
        instructions: float | None = None
        with temporary_folder() as folder:
            artifacts: list[Artifact] = exporter.export(
                self._checkpoint(number), folder, self._training, self._test, ("native",),
                (candidate.precision,),
            )  # fmt: skip
            try:
                instructions = count_instructions(artifacts[-1], CORE).instructions
            except TargetError as error:
                self._console.note(f"{_name(number)} has an estimate only: {error}")
        self._step(f"{_name(number)}: instructions")
        return instructions


def _name(number: int) -> str:
    return f"network-{number + 1:02}"


def _unique(candidates: Sequence[Candidate]) -> list[int]:
    return [
        number
        for number, candidate in enumerate(candidates)
        if candidate not in candidates[:number]
    ]


def _score(candidate: Candidate, accuracy: float) -> Score:
    return Score(accuracy, candidate.cost.num_bytes, candidate.cost.instructions)


def _facts(number: int, candidate: Candidate) -> dict[str, Any]:
    return {
        "name": _name(number),
        "architecture": dataclasses.asdict(candidate.architecture),
        "precision": candidate.precision,
        "weight_bytes": candidate.cost.num_bytes,
        "estimated_instructions": candidate.cost.instructions,
    }
