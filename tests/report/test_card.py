"""Tests of the model card: its statements, the files that it replaces, and the hub's reader."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.report.card import render_card
from lenet_edge.report.card_metadata import CardFile
from lenet_edge.support.files import sha256_of
from tests.conftest import LenetEdge
from tests.onnx_models import FOLDER
from tests.report.test_page import RECORDED
from tests.test_docs import ROOT
from tests.test_exit_statuses import few_images

DIGIT = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"
FILES = ("lenet_int8.tflite", "lenet_float32.tflite", "lenet_float32.onnx")


def metadata(card: Path) -> Any:
    _, head, _ = card.read_text().split("---\n", 2)
    return yaml.safe_load(head)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files, their record on all test images, and recorded results."""
    (record,) = (ROOT / "exported").glob("reference-*.npz")
    shutil.copy(record, tmp_path)
    for name in FILES:
        shutil.copy(ROOT / "exported" / name, tmp_path)
        shutil.copy(ROOT / "exported" / f"{name}.json", tmp_path)
    facts = json.loads(RECORDED[-1].read_text())
    for kind, name in (("measurements", "artifact"), ("parity", "candidate")):
        facts[kind] = [f for f in facts[kind] if f[name] in FILES and "lite" in f["target"]]
    (tmp_path / "results.json").write_text(json.dumps(facts))
    return tmp_path


def test_the_card_states_the_results(lenet_edge_here: LenetEdge, folder: Path) -> None:
    done = lenet_edge_here("report", "results.json", "--card", "--license", "mit")
    assert done.returncode == 0, done.stderr
    assert "Left out" not in done.stderr
    facts, text = metadata(folder / "README.md"), (folder / "README.md").read_text()
    results = json.loads((folder / "results.json").read_text())
    accuracies = [report["candidate_accuracy"] for report in results["parity"]]
    (model,) = facts["model-index"]
    (result,) = model["results"]
    assert result["task"]["type"] == facts["pipeline_tag"] == "image-classification"
    metrics = [m for m in result["metrics"] if m["type"] == "accuracy"]
    assert [metric["value"] for metric in metrics] == accuracies
    assert (facts["license"], facts["metrics"]) == ("mit", ["accuracy"])
    assert facts["library_name"] == "litert"
    assert result["dataset"] == {"name": "mnist-test, 10,000 samples", "type": "ylecun/mnist"}
    assert facts["datasets"] == ["ylecun/mnist"]
    assert "| lenet_int8.tflite | tflite | int8 | 71,104 bytes | 0923f249e7b5d183 |" in text
    assert "int8 of shape \\[any, 28, 28, 1\\]" in text
    assert "takes pixels scaled to 0..1: stated by the file." in text
    assert text.count("| litert-xnnpack | pass |") == 2
    assert "ASSUMED" not in text


@pytest.mark.slow
def test_the_commands_of_the_card_run(lenet_edge_here: LenetEdge, folder: Path) -> None:
    lenet_edge_here("report", "results.json", "--card")
    text = (folder / "README.md").read_text()
    shutil.copy(DIGIT, folder / "image.png")
    commands = re.findall(r"^lenet-edge (.*)$", text, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["inspect", "predict", "verify", "bench"]
    for command in commands:
        short = ["--rounds", "1", "--max-time", "0.1", "--min-time", "0.05"]
        arguments = [*command.split(), *(short if command.startswith("bench") else ())]
        done = lenet_edge_here(*arguments)
        assert done.returncode == 0, done.stderr
        if command.startswith("predict"):
            assert done.stdout.split()[1] == "7"
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    assert "7" in printed.getvalue()


def test_images_that_are_not_those_of_the_record_are_not_named(
    lenet_edge_here: LenetEdge, folder: Path
) -> None:
    few_images(folder, 400)  # the results have 10,000
    assert lenet_edge_here("report", "results.json", "--card").returncode == 0
    facts = metadata(folder / "README.md")
    (result,) = facts["model-index"][0]["results"]
    assert result["dataset"]["name"] == "samples given to lenet-edge verify, 10,000 samples"
    assert "datasets" not in facts


def test_only_an_unedited_card_is_replaced(lenet_edge_here: LenetEdge, folder: Path) -> None:
    command = ("report", "results.json", "--card")
    card = folder / "README.md"
    card.write_text("# My own page\n")
    done = lenet_edge_here(*command)
    assert done.returncode == 1
    assert "README.md is no card of lenet-edge, or was edited since; name" in done.stderr
    assert card.read_text() == "# My own page\n"
    assert lenet_edge_here(*command, "--output", "CARD.md").returncode == 0
    assert lenet_edge_here(*command, "--force").returncode == 0
    assert card.read_text() == (folder / "CARD.md").read_text()
    assert lenet_edge_here(*command, "--license", "mit").returncode == 0
    assert metadata(card)["license"] == "mit"
    edited = card.read_text().replace("license is mit", "license is mine")
    card.write_text(edited)
    assert lenet_edge_here(*command).returncode == 1
    assert card.read_text() == edited
    for wrong, says in (
        (["--license", "mit"], "are for --card"),
        (["--card", "--output", "card.html"], "a card is an .md file"),
        (["--card", "--models", "."], ""),
    ):
        done = lenet_edge_here("report", "results.json", *wrong)
        assert done.returncode == (2 if says else 1)
        assert says in done.stderr


def test_without_the_files_there_is_no_card(lenet_edge_here: LenetEdge, folder: Path) -> None:
    for path in folder.glob("lenet_*"):
        path.write_bytes(path.read_bytes() + b" ")
    done = lenet_edge_here("report", "results.json", "--card")
    assert done.returncode == 1
    assert "no file of the results is in . or exported, or they have changed" in done.stderr
    assert not (folder / "README.md").exists()


def test_the_order_of_the_channels_is_stated_once() -> None:
    artifact = load_artifact(ROOT / "exported" / FILES[0])
    for channels, words in (("bgr", "order BGR"), ("rgb", "order RGB"), ("gray", "0..1, gray:")):
        rule = dataclasses.replace(artifact.preprocessing, channels=channels, resize="crop")
        files = [CardFile(dataclasses.replace(artifact, preprocessing=rule))]
        text = render_card([], files, "LeNet").replace(
            ", images of another size: crop, bilinear", ""
        )
        assert text.count(words) == text.count("takes pixels") == 1
        assert text.count("channels in the order") == (channels != "gray")


def test_several_machines_and_a_file_from_elsewhere_whose_input_is_assumed(
    lenet_edge_here: LenetEdge, folder: Path
) -> None:
    name = "their|*model*.onnx"
    shutil.copy(FOLDER / "resnet8_script17.onnx", folder / name)

    facts = json.loads((folder / "results.json").read_text())
    reason = f"{name} does not say what it takes"
    report = {**facts["parity"][0], "candidate": name, "candidate_sha256": sha256_of(folder / name),
              "target": "onnxruntime-cpu", "verdict": "inconclusive", "reasons": [reason],
              "reference": "a\nb: c", "candidate_accuracy": None, "accuracy_drop": None,
              "mcnemar_p": None, "per_class": [], "confusion": []}  # fmt: skip
    facts |= {"parity": [report], "measurements": []}
    (folder / "theirs.json").write_text(json.dumps(facts))
    facts["environment"]["machine"] = "Another: *machine*"
    (folder / "other.json").write_text(json.dumps(facts))
    done = lenet_edge_here("report", "theirs.json", "other.json", "--card")
    assert done.returncode == 4, done.stderr
    text, facts = (folder / "README.md").read_text(), metadata(folder / "README.md")
    assert "takes pixels of 0 to 255: ASSUMED, because no source states it" in text
    assert "Its input values are assumed, so no verdict is certain" in text
    assert "Nothing was timed." in text
    assert "| their\\|\\*model\\*.onnx |" in text
    assert "recommended" not in text  # that is advice for the author
    (result,) = facts["model-index"][0]["results"]
    assert result["dataset"] == {"name": "samples given to lenet-edge verify, 10,000 samples",
                                 "type": "custom"}  # fmt: skip
    assert {metric["type"] for metric in result["metrics"]} == {"agreement"}
    assert "Another: *machine*" in result["metrics"][1]["name"]
    assert "license" not in facts
    assert "metrics" not in facts


def test_the_check_names_the_package_that_it_needs(
    lenet_edge_here: LenetEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    done = lenet_edge_here("card", "--check", "README.md")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: huggingface_hub is not installed; install it with: pip install huggingface_hub\n"
    )
    assert lenet_edge_here("card", "--check", "none.md").returncode == 1


def test_the_hub_s_reader_accepts_the_card_and_finds_faults(
    lenet_edge_here: LenetEdge, folder: Path
) -> None:
    pytest.importorskip("huggingface_hub")
    lenet_edge_here("report", "results.json", "--card")
    card = folder / "README.md"
    done = lenet_edge_here("card", "--check", card, "--json", "-")
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    results = json.loads((folder / "results.json").read_text())
    assert facts["num_results"] == 2 * len(results["parity"])
    assert facts["unedited"]
    assert "The card has no license" in lenet_edge_here("card", "--check", card).stdout
    text = card.read_text()
    for wrong, says in (
        (text.replace("library_name: litert", "library_name: [litert"), "while parsing"),
        (text.replace("task:", "no_task:"), "Invalid `model_index`"),
        ("# A page\n", "does not start with metadata"),
        ("---\n- a list\n---\n", "should be a dict"),
    ):
        card.write_text(wrong)
        done = lenet_edge_here("card", "--check", card)
        assert done.returncode == 3, done.stdout
        assert says.lower() in " ".join(done.stdout.split()).lower()
        assert "Traceback" not in done.stderr
    card.write_text(text)
    (folder / "lenet_int8.tflite").write_bytes(b"another")
    done = lenet_edge_here("card", "--check", card)
    assert done.returncode == 3
    assert "lenet_int8.tflite has changed since the card was written" in done.stdout
