"""Tests that MLflow's own client reads back what a training logs, in a venv with MLflow."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.data import mnist
from lenet_edge.extras import PACKAGES
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


# Print each run of a store: its name, the name of its parent, and what it has.
READ = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
(experiment,) = (e for e in client.search_experiments() if e.name == "lenet-edge")
runs = client.search_runs([experiment.experiment_id])
names = {run.info.run_id: run.info.run_name for run in runs}
losses = {run.info.run_id: client.get_metric_history(run.info.run_id, "loss") for run in runs}
print(json.dumps([{
    "name": run.info.run_name, "parent": names.get(run.data.tags.get("mlflow.parentRunId")),
    "status": run.info.status, "ms": run.info.end_time - run.info.start_time,
    "parameters": run.data.params, "metrics": run.data.metrics, "tags": run.data.tags,
    "loss": [m.value for m in losses[run.info.run_id]],
    "steps": [m.step for m in losses[run.info.run_id]],
    "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
} for run in runs]))
"""


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    training, test = mnist.load("train"), mnist.load("test")
    np.savez(tmp_path / "few.npz", x_train=training.images[:1000], y_train=training.labels[:1000],
             x_test=test.images[:200], y_test=test.labels[:200])  # fmt: skip
    return tmp_path / "few.npz"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a venv with MLflow, which also sees the packages of the tests."""
    folder = tmp_path_factory.mktemp("mlflow") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", *shlex.split(PACKAGES["mlflow"])]
    installed = subprocess.run(install, capture_output=True, text=True)
    if installed.returncode:
        reason = f"MLflow cannot be installed: {installed.stderr.splitlines()[-1]}"
        if os.environ.get("LENET_EDGE_TESTS_COMPLETE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "tests.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


def run(python: Path, folder: Path, *arguments: object, status: int = 0) -> str:
    done = subprocess.run(
        [python, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "mlflow.store" not in done.stderr  # its own log
    return done.stdout


@pytest.mark.slow
def test_mlflow_reads_parameters_metrics_verdicts_and_files(python: Path, tmp_path: Path) -> None:
    results = ROOT / "tests" / "golden" / "schema-6.json"
    read = json.loads(run(python, tmp_path, "-c", WRITE_AND_READ, results))
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


@pytest.mark.slow
def test_the_commands_log_to_one_store(python: Path, inputs: Path, tmp_path: Path) -> None:
    """`train` with several seeds, `finetune` and `run`."""
    command = ("-m", "lenet_edge")
    options = ("--dataset", inputs, "--epochs", 2, "--mlflow", "store")
    network = ("--network", "cnn-3k")
    run(python, tmp_path, *command, "train", *network, *options, "--seeds", 2,
        "--output", "mine.keras")  # fmt: skip
    run(python, tmp_path, *command, "finetune", "mine.keras", *options)
    run(python, tmp_path, *command, "run", *network, *options, "--batch-size", 1,
        "--output-dir", "out", status=4)  # fmt: skip  # 200 images are too few for a verdict
    read = json.loads(run(python, tmp_path, "-c", READ, f"sqlite:///{tmp_path}/store/mlflow.db"))
    runs = {entry["name"]: entry for entry in read}
    assert {name: entry["parent"] for name, entry in runs.items()} == {
        "mine": None, "seed-1": "mine", "seed-2": "mine", "mine_qat": None, "cnn-3k": None,
    }  # fmt: skip
    assert {entry["status"] for entry in read} == {"FINISHED"}

    summary = json.loads((tmp_path / "mine.seeds" / "seeds.json").read_text())
    parent = runs["mine"]
    for name in ("mean", "stdev", "min", "max"):
        assert parent["metrics"][f"{name}_test_accuracy"] == summary[name]
    assert parent["parameters"]["seeds"] == "[1, 2]"
    assert parent["parameters"]["median_seed"] == str(summary["median_seed"])
    assert "seed" not in parent["parameters"]
    assert parent["files"] == ["mine.keras", "mine.keras.json", "seeds.json"]

    for name, record in {
        "seed-1": "mine.seeds/seed-1.training", "seed-2": "mine.seeds/seed-2.training",
        "mine_qat": "mine_qat.training", "cnn-3k": "out/cnn-3k.training",
    }.items():  # fmt: skip
        history = json.loads((tmp_path / record / "history.json").read_text())
        entry = runs[name]
        assert entry["loss"] == [epoch["loss"] for epoch in history["epochs"]]
        assert entry["steps"] == [1, 2]
        assert entry["metrics"]["test_accuracy"] == history["test_accuracy"]
        assert entry["parameters"]["recipe.epochs"] == "2"
        assert entry["ms"] >= 1000 * sum(epoch["seconds"] for epoch in history["epochs"]) - 1
        files = {"curve.png", "history.json", f"{name}.keras", f"{name}.keras.json"}
        assert files <= {*entry["files"]}
    assert runs["mine_qat"]["parameters"]["quantize"] == "int8"

    results = json.loads((tmp_path / "out" / "results.json").read_text())
    verdicts = {key: value for key, value in runs["cnn-3k"]["tags"].items() if "verdict/" in key}
    assert len(verdicts) == len(results["parity"]) > 0
    pair = "cnn-3k_int8.tflite/litert-xnnpack"
    (report,) = (
        report for report in results["parity"]
        if f"{report['candidate']}/{report['target']}" == pair
    )  # fmt: skip
    assert verdicts[f"verdict/{pair}"] == report["verdict"]
    assert runs["cnn-3k"]["metrics"][f"top1_agreement/{pair}"] == report["top1_agreement"]
    exported = ("cnn-3k_int8.tflite", "cnn-3k_int8.tflite.json", "cnn-3k_native_int8.h")
    assert {*exported} <= {*runs["cnn-3k"]["files"]}


def test_without_mlflow_the_line_names_the_extra(lenet_edge_here: LenetEdge) -> None:
    done = lenet_edge_here("train", "--mlflow", "store")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: mlflow is not installed; install it with:"
        " pip install 'mlflow-skinny>=3.17' alembic sqlalchemy"
    )
    assert lenet_edge_here("run", "model.keras", "--mlflow", "store").returncode != 0
