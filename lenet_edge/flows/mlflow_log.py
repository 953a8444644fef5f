"""A run in a local MLflow store: the parameters, metrics and artifacts of a training.

mlflow-skinny with SQLAlchemy writes the database that `mlflow ui` opens. The whole of mlflow also
brings pandas, scikit-learn and a web server, which writing does not need.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.artifact import manifest_path
from lenet_edge.errors import LenetEdgeError, MissingPackageError
from lenet_edge.results.parity_report import ParityReport
from lenet_edge.train.saved_state import CURVE_FILE, HISTORY_FILE, History, training_folder

DATABASE = "mlflow.db"
_EXPERIMENT = "lenet-edge"


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
def _open(store: Path) -> Iterator[tuple[Any, str]]:
    """Yield a client of the store, and the number of its experiment.

    Raises:
        LenetEdgeError: the store cannot be written, or another program made it.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    folder = store.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=f"sqlite:///{folder / DATABASE}")
        experiment = client.get_experiment_by_name(_EXPERIMENT)
        yield client, experiment.experiment_id if experiment else client.create_experiment(
            _EXPERIMENT, artifact_location=(folder / "artifacts").as_uri()
        )  # fmt: skip
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
    """Add a training to a store as a finished run; create the store if it does not exist.

    Args:
        store: the folder of the database and of the artifacts.
        checkpoint: the trained file. The store gets a copy, with its manifest and its record.
        history: the record of the training.
        exported: further artifacts to copy into the store.
        verdicts: the comparisons of exported files with the checkpoint.

    Raises:
        LenetEdgeError: the store cannot be written, or another program made it.
    """
    with _open(store) as (client, experiment_id):
        run = client.create_run(experiment_id, run_name=checkpoint.stem).info.run_id
        for key, value in _parameters(history).items():
            client.log_param(run, key, value)
        for epoch in history.epochs:
            for key in ("loss", "accuracy", "learning_rate", "seconds"):
                client.log_metric(run, key, epoch[key], step=epoch["epoch"])
        client.log_metric(run, "test_accuracy", history.test_accuracy or 0.0)
        for report in verdicts:
            pair = re.sub(r"[^\w. /-]", "_", f"{report.candidate}/{report.target}", flags=re.ASCII)
            client.set_tag(run, f"verdict/{pair}", report.verdict)
            for key in ("candidate_accuracy", "top1_agreement", "max_abs_error"):
                value = getattr(report, key)
                if value is not None:
                    client.log_metric(run, f"{key}/{pair}", value)
        record = training_folder(checkpoint)
        files = [checkpoint, manifest_path(checkpoint), record / HISTORY_FILE, record / CURVE_FILE]
        for file in filter(Path.exists, (*files, *exported)):
            client.log_artifact(run, str(file))
        client.set_terminated(run)


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
