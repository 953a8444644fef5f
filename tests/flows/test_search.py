"""Tests of `search`: its choices, its bounds, and a search that is killed and resumed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.data import mnist
from lenet_edge.errors import LenetEdgeError, UsageError
from lenet_edge.flows.display import CallbackConsole, ProgressEvent
from lenet_edge.flows.search import SearchSettings, search
from lenet_edge.networks import Architecture, Block, build
from lenet_edge.search.cost import estimate_cost
from lenet_edge.search.front import Score, choose_best, front_of
from lenet_edge.search.space import CandidateStudy, CostLimits
from tests.conftest import LenetEdge

pytest.importorskip("optuna")
SHAPE = (28, 28, 1)


def test_the_front_and_the_choice_of_the_better_half() -> None:
    scores = [Score(0.9, 10, 10), Score(0.9, 10, 11), Score(0.8, 5, 5), Score(0.7, 6, 6)]
    assert front_of(scores) == [0, 2]
    assert choose_best(scores, 1) == [0]  # the most accurate of the front
    assert choose_best(scores, 3) == [0, 1, 2]
    assert front_of([scores[0], scores[0]]) == [0, 1]


@pytest.mark.costly
def test_the_bytes_are_those_of_the_folded_network() -> None:
    network = Architecture(
        (Block(6, 5, 2, padding="valid"), Block(8, 3, 2, residual=True), Block(4, depthwise=True)),
        "flatten", (9,),
    )  # fmt: skip
    model = build(network, 10, SHAPE)
    weights = sum(w.numpy().size for w in model.trainable_weights if "kernel" in w.name)
    # Folding leaves a bias for each beta of BatchNorm.
    biases = sum(w.numpy().size for w in model.trainable_weights if w.name in ("bias", "beta"))
    assert estimate_cost(network, "float32", SHAPE, 10).num_bytes == 4 * (weights + biases)
    assert estimate_cost(network, "int8", SHAPE, 10).num_bytes == weights + 4 * biases


def study(folder: Path, limits: CostLimits, seed: int = 1) -> CandidateStudy:
    settings = {"seed": seed}
    return CandidateStudy(folder / "j", settings, limits, ["float32", "int8"], SHAPE, 10, 9, seed)


def test_choices_are_within_the_bounds_and_do_not_depend_on_a_kill(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    limits = CostLimits(4000, 400_000)
    whole, killed = study(tmp_path / "a", limits), study(tmp_path / "b", limits)
    chosen = []
    for number in range(6):
        choice, candidate = whole.ask()
        assert limits.allow(candidate.cost)
        whole.tell(choice, candidate, 0.9 + number / 100)
        chosen.append(candidate)
        killed.ask()  # a process that dies before the result, and while it writes and has the lock
        with (tmp_path / "b" / "j").open("a") as journal:
            journal.write('{"op_code": 5, "wor')
        (tmp_path / "b" / "j.lock").symlink_to("j")
        killed = study(tmp_path / "b", limits)
        choice, again = killed.ask()
        assert again == candidate
        killed.tell(choice, again, 0.9 + number / 100)
    assert [candidate for candidate, _ in killed.results()] == chosen
    assert len(set(chosen)) > 3
    with pytest.raises(UsageError, match=r"was started with seed 1, not 2; resume it with"):
        study(tmp_path / "a", limits, seed=2)
    (tmp_path / "a" / "j").write_text("rubbish\n")
    with pytest.raises(LenetEdgeError, match=r"j is damaged .*; start again without --resume in"):
        study(tmp_path / "a", limits)


def test_impossible_bounds_and_a_wrong_resume_are_one_line(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    done = lenet_edge_here("search", "--max-bytes", "100")
    assert done.returncode == 2
    assert "no network is within the bounds; the smallest has" in done.stderr
    assert not (tmp_path / "search" / "search.journal").exists()
    done = lenet_edge_here("search", "--resume")
    assert done.returncode == 2
    assert "there is no search in search; start one without --resume" in done.stderr
    # The records of another search whose journal somebody deleted.
    record = tmp_path / "search" / "network-01.training" / "history.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    done = lenet_edge_here("search")
    assert done.returncode == 2
    assert "search holds the networks of another search; name another folder" in done.stderr
    assert record.read_text() == "{}"


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.costly
def test_a_killed_search_ends_as_it_would_have(tmp_path: Path) -> None:
    data = tmp_path / "few.npz"
    training, test = mnist.load("train"), mnist.load("test")

    def save(first: int) -> None:
        part = slice(first, first + 200)
        np.savez(
            data, x_train=training.images[part, ::2, ::2], y_train=training.labels[part],
            x_test=test.images[:50, ::2, ::2], y_test=test.labels[:50],
        )  # fmt: skip

    save(0)
    shown: list[ProgressEvent] = []
    settings = SearchSettings(3000, precisions=("float32",), num_networks=2, epochs=2)

    def run(name: str, resume: bool = False, last: int = 99) -> dict[str, Any]:
        def show(event: ProgressEvent) -> None:
            shown.append(event)
            if event.stage == "Search" and event.done == last:
                raise Killed

        return search(tmp_path / name, CallbackConsole(show), settings, str(data), None, resume)

    whole = run("whole")
    (point,) = whole["points"]
    assert point["on_front"]
    assert point["weight_bytes"] <= 3000
    assert whole["smallest"] == point["name"]
    assert whole["num_tried"] == 2
    assert json.loads((tmp_path / "whole" / "search.json").read_text()) == json.loads(
        json.dumps(whole)
    )
    for name in ("search.png", point["checkpoint"], f"{point['name']}.training/history.json"):
        assert (tmp_path / "whole" / name).stat().st_size > 0
    steps = [event for event in shown if event.stage == "Search"]
    assert steps[-1].done == steps[-1].total
    if (counted := point["instructions"]) is not None:
        assert steps[-1].done == 4  # two first epochs, a second one, and the count
        assert 0.5 < point["estimated_instructions"] / counted < 2
    with pytest.raises(Killed):
        run("killed", last=2)
    with pytest.raises(UsageError, match="holds a search; continue it with --resume"):
        run("killed")
    save(200)
    with pytest.raises(UsageError, match=r"was started with images .*, not .*; resume it with"):
        run("killed", resume=True)
    save(0)
    # The message about a damaged record advises to delete it.
    shutil.rmtree(tmp_path / "killed" / f"{point['name']}.training")
    assert run("killed", resume=True) == whole
