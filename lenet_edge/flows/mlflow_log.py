"""A run in a local MLflow store: the parameters, metrics and artifacts of a training.

mlflow-skinny with SQLAlchemy writes the database that `mlflow ui` opens. The whole of mlflow also
brings pandas, scikit-learn and a web server, which writing does not need.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_edge.artifacts.artifact import manifest_path
from lenet_edge.artifacts.parts import part_paths
from lenet_edge.errors import LenetEdgeError, MissingPackageError
from lenet_edge.results.parity_report import ParityReport
from lenet_edge.train.saved_state import CURVE_FILE, HISTORY_FILE, History, training_folder

if TYPE_CHECKING:
    from lenet_edge.flows.seeds import SeedSummary

DATABASE = "mlflow.db"
_EXPERIMENT = "lenet-edge"
_PARENT = "mlflow.parentRunId"  # the tag of a nested run
_EPOCH_METRICS = ("loss", "accuracy", "learning_rate", "seconds")
_PARITY_METRICS = ("candidate_accuracy", "top1_agreement", "max_abs_error")


def check_mlflow(store: Path) -> None:
    """Open or create a store, before a training takes its time.

    Args:
        store: see `log_training`.

    Raises:
        MissingPackageError: a package of the extra "mlflow" is not installed.
        LenetEdgeError: the store cannot be written, or another program made it.
    """
    for package in ("mlflow", "sqlalchemy", "alembic"):
        try:
            __import__(package)
        except ImportError:
            raise MissingPackageError(package, "mlflow") from None
    with _open(store):
        pass


@contextlib.contextmanager
def _open(store: Path) -> Iterator[_Runs]:
    """Yield the runs of lenet-edge in a store, which is created if it does not exist.

    Raises:
        LenetEdgeError: the store cannot be written, or another program made it.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports the tables of a new database
    folder = store.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=f"sqlite:///{folder / DATABASE}")
        experiment = client.get_experiment_by_name(_EXPERIMENT)
        yield _Runs(client, experiment.experiment_id if experiment else client.create_experiment(
            _EXPERIMENT, artifact_location=(folder / "artifacts").as_uri()
        ))  # fmt: skip
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise LenetEdgeError(
            f"{folder / DATABASE} cannot be written ({reason}); name another folder with --mlflow"
        ) from error


def log_training(
    store: Path,
    checkpoint: Path,
    history: History,
    exported: Iterable[Path] = (),
    verdicts: Sequence[ParityReport] = (),
) -> None:
    """Add a training to a store as a finished run.

    Args:
        store: the folder of the database and of the artifacts.
        checkpoint: the trained file. The store gets a copy, with its manifest and its record.
        history: the record of the training.
        exported: further artifacts to copy into the store, with their parts and manifests.
        verdicts: the comparisons of exported files with the checkpoint.

    Raises:
        LenetEdgeError: the store cannot be written, or another program made it.
    """
    with _open(store) as runs:
        run = runs.add_training(checkpoint, history)
        runs.add_verdicts(run, verdicts)
        runs.finish(run, exported)


def log_seeds(store: Path, checkpoint: Path, seeds: SeedSummary) -> None:
    """Add trainings that differ in their seed alone to a store: a run with a nested run for each.

    Args:
        store: see `log_training`.
        checkpoint: the file of the median training, with the folder of all seeds beside it.
        seeds: the accuracies of all seeds.

    Raises:
        LenetEdgeError: the store cannot be written, or another program made it.
    """
    from lenet_edge.flows.seeds import SUMMARY, seed_path, seeds_folder

    paths = [seed_path(checkpoint, seed) for seed in seeds.accuracies]
    trainings = {path: History.load(training_folder(path)) for path in paths}
    with _open(store) as runs:
        parent = runs.add_seeds(checkpoint, seeds, [*trainings.values()])
        for path, history in trainings.items():
            runs.finish(runs.add_training(path, history, parent))
        runs.finish(parent, (checkpoint, seeds_folder(checkpoint) / SUMMARY))


class _Runs:
    """The runs of lenet-edge in a store. A run is unfinished until `finish`."""

    def __init__(self, client: Any, experiment_id: str) -> None:
        self._client, self._experiment_id = client, experiment_id

    def add_training(self, checkpoint: Path, history: History, parent: str | None = None) -> str:
        """Add the settings, the epochs and the files of a training; return its identifier."""
        run = self._create(checkpoint, [history], {_PARENT: parent} if parent else {})
        self._log_parameters(run, _parameters(history))
        for epoch in history.epochs:
            self._log_metrics(run, {key: epoch[key] for key in _EPOCH_METRICS}, epoch["epoch"])
        self._log_metrics(run, {"test_accuracy": history.test_accuracy or 0.0})
        record = training_folder(checkpoint)
        self._copy(run, (checkpoint, record / HISTORY_FILE, record / CURVE_FILE))
        return run

    def add_seeds(self, checkpoint: Path, seeds: SeedSummary, histories: Sequence[History]) -> str:
        """Add the mean and the spread of several trainings; return the identifier."""
        run = self._create(checkpoint, histories, {})
        parameters = {**_parameters(histories[0]), "seeds": [*seeds.accuracies]}
        del parameters["seed"]
        self._log_parameters(run, {**parameters, "median_seed": seeds.median_seed})
        facts = seeds.to_json()
        statistics = ("mean", "stdev", "min", "max")
        self._log_metrics(run, {f"{key}_test_accuracy": facts[key] for key in statistics})
        return run

    def add_verdicts(self, run: str, verdicts: Iterable[ParityReport]) -> None:
        """Add the comparisons of exported files to a run: a tag and up to three metrics each."""
        for report in verdicts:
            pair = re.sub(r"[^\w. /-]", "_", f"{report.candidate}/{report.target}", flags=re.ASCII)
            self._client.set_tag(run, f"verdict/{pair}", report.verdict)
            values = {f"{key}/{pair}": getattr(report, key) for key in _PARITY_METRICS}
            self._log_metrics(run, {key: values[key] for key in values if values[key] is not None})

    def finish(self, run: str, files: Iterable[Path] = ()) -> None:
        """Copy files into the store, and end a run."""
        self._copy(run, files)
        self._client.set_terminated(run)

    def _create(self, checkpoint: Path, trainings: Iterable[History], tags: dict[str, str]) -> str:
        """Create a run whose duration is that of its trainings."""
        seconds = sum(epoch["seconds"] for history in trainings for epoch in history.epochs)
        started = int(1000 * (time.time() - seconds))
        run = self._client.create_run(self._experiment_id, started, tags, run_name=checkpoint.stem)
        return str(run.info.run_id)

    def _log_parameters(self, run: str, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(run, params=[Param(key, str(values[key])) for key in values])

    def _log_metrics(self, run: str, values: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(run, [Metric(key, values[key], now, step) for key in values])

    def _copy(self, run: str, files: Iterable[Path]) -> None:
        """Copy files that exist, each with its parts, its header and its manifest."""
        for file in filter(Path.exists, files):
            header = [file.with_suffix(".h")] if file.suffix == ".c" else []
            beside = (*part_paths(file), *header, manifest_path(file))
            for each in (file, *filter(Path.exists, beside)):
                self._client.log_artifact(run, str(each))


def _parameters(history: History) -> dict[str, Any]:
    """Return the settings of a training by dotted names; empty ones are left out."""

    def flatten(values: dict[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
        for key, value in values.items():
            if isinstance(value, dict):
                yield from flatten(value, f"{prefix}{key}.")
            elif value not in (None, ""):
                yield f"{prefix}{key}", value

    settings = dict(flatten(dataclasses.asdict(history.settings), ""))
    return {**settings, "dataset": history.dataset}
