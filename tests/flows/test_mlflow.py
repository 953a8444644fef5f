"""Tests that MLflow's own client reads back what a training logs, in a venv with MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LenetEdge

ROOT = Path(__file__).parents[2]
# The pins of the other tests allow only an old MLflow, so it has a venv of its own.
WRITE_AND_READ = """
import json, sys
from pathlib import Path
from mlflow import MlflowClient
from lenet_edge.errors import LenetEdgeError
from lenet_edge.flows.mlflow_log import check_mlflow, log_training
from lenet_edge.results.result_file import BenchRun
from lenet_edge.train.recipe import QUICK
from lenet_edge.train.saved_state import History, TrainingSettings, training_folder

checkpoint, store = Path("mine.keras").absolute(), Path("store")
checkpoint.write_bytes(b"weights")
history = History(TrainingSettings(QUICK, seed=7, network="ds-cnn"), "mnist-train")
for loss in (1.5, 0.5):
    history.add([loss], 1 - loss / 2, 1e-3, 2.0)
history.test_accuracy = 0.75
history.save(training_folder(checkpoint))
parity = BenchRun.load(Path(sys.argv[1])).parity
check_mlflow(store)
Path("other").mkdir()
Path("other/mlflow.db").write_text("rubbish")
try:
    check_mlflow(Path("other"))
    refusal = ""
except LenetEdgeError as error:
    refusal = str(error)
for _ in range(2):
    log_training(store, checkpoint, history, [Path(sys.argv[1])], parity)

client = MlflowClient(f"sqlite:///{store.absolute() / 'mlflow.db'}")
(experiment,) = (e for e in client.search_experiments() if e.name == "lenet-edge")
runs = client.search_runs([experiment.experiment_id])
run = runs[0]
read = lambda key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
print(json.dumps({
    "runs": len(runs), "status": run.info.status, "parameters": run.data.params,
    "loss": read("loss"), "test": run.data.metrics["test_accuracy"], "tags": run.data.tags,
    "verdicts": [report.verdict for report in parity],
    "refusal": refusal,
    "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
}))
"""


@pytest.mark.slow
def test_mlflow_reads_parameters_metrics_verdicts_and_files(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    packages = ("mlflow-skinny>=3.17", "sqlalchemy", "alembic", "numpy", "click", "rich")
    installed = subprocess.run(
        [python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True
    )
    if installed.returncode:
        pytest.skip(f"MLflow cannot be installed: {installed.stderr.splitlines()[-1]}")
    results = ROOT / "tests" / "golden" / "schema-6.json"
    done = subprocess.run(
        [python, "-c", WRITE_AND_READ, results], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert (read["runs"], read["status"], read["test"]) == (2, "FINISHED", 0.75)
    assert read["parameters"]["recipe.name"] == "quick"
    assert (read["parameters"]["seed"], read["parameters"]["network"]) == ("7", "ds-cnn")
    assert read["loss"] == [[1, 1.5], [2, 0.5]]
    assert read["files"] == ["history.json", "mine.keras", "schema-6.json"]
    verdicts = [value for key, value in read["tags"].items() if key.startswith("verdict/")]
    assert sorted(verdicts) == sorted(read["verdicts"])
    assert verdicts
    # Before the training, so that no training is lost for a store that cannot be written.
    assert "other/mlflow.db cannot be written (" in read["refusal"]
    assert "name another folder with --mlflow" in read["refusal"]


def test_without_mlflow_the_line_names_the_extra(lenet_edge_here: LenetEdge) -> None:
    done = lenet_edge_here("train", "--mlflow", "store")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: mlflow is not installed; install it with:"
        " pip install 'mlflow-skinny>=3.17' alembic sqlalchemy"
    )
    assert lenet_edge_here("run", "model.keras", "--mlflow", "store").returncode != 0
