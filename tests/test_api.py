"""The Python API: its names, its types, and calls on the real files in exported/."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pytest

import lenet_edge as le
from lenet_edge.artifacts.stated_input import StatedInput
from lenet_edge.cli import main
from lenet_edge.data import mnist
from lenet_edge.support.html_table import ResultList, html_table

if TYPE_CHECKING:
    from typing_extensions import assert_type

ROOT = Path(__file__).parents[1]
INT8 = ROOT / "exported" / "lenet_int8.tflite"
FLOAT32 = ROOT / "exported" / "lenet_float32.tflite"
DIGITS = ROOT / "tests" / "data" / "handwriting"
FUNCTIONS = [
    "bench", "export", "finetune", "load", "load_results", "predict", "recommend", "report",
    "targets", "train", "verify",
]  # fmt: skip
TYPES = [
    "Artifact", "BenchRun", "BoardError", "DataError", "Delegation", "FleetRun", "LenetEdgeError",
    "Measurement", "MissingPackageError", "ModelFileError", "NothingFits", "ParityReport",
    "Prediction", "ProgressEvent", "Recommendation", "Report", "Skipped", "Target", "TargetError",
    "TargetStatus", "TrainingResult", "UsageError", "WorkerError",
]  # fmt: skip


def python(code: str) -> str:
    """Return the output of code in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_exported_names() -> None:
    assert le.__all__ == sorted([*FUNCTIONS, *TYPES, "__version__"])
    assert dir(le) == le.__all__
    for name in le.__all__:
        assert getattr(le, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(le, "nonsense")  # noqa: B009


@pytest.mark.parametrize("name", [*FUNCTIONS, *TYPES])
def test_every_name_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(le, name))
    if name not in FUNCTIONS:
        return
    text = inspect.getdoc(getattr(le, name)) or ""
    for parameter in inspect.signature(getattr(le, name)).parameters:
        assert f"\n    {parameter}: " in text, parameter


def test_an_import_loads_nothing() -> None:
    code = "import json, sys, lenet_edge; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.split(".")[0] for name in json.loads(python(code))}
    assert not loaded & {"numpy", "click", "rich", "tensorflow", "onnxruntime", "ai_edge_litert"}
    before = set(json.loads(python(code.replace(", lenet_edge", ""))))
    added = {name for name in json.loads(python(code)) if name not in before}
    stages = ("bench", "export", "report", "train", "verify")
    assert {name for name in added if name.startswith("lenet_edge")} == {
        "lenet_edge", *(f"lenet_edge.{stage}" for stage in stages),
    }  # fmt: skip
    assert added <= {"__future__", "importlib", "warnings"} | {
        name for name in added if name.startswith(("lenet_edge", "importlib", "_"))
    }


def test_packages_do_not_hide_the_functions_of_their_names() -> None:
    python(
        "import lenet_edge.verify.verify, lenet_edge.bench.plan, lenet_edge.report.page\n"
        "import lenet_edge as le\n"
        "assert all(map(inspect.isfunction, (le.verify, le.bench, le.report, le.train, le.export)))"
        .replace("import lenet_edge.verify", "import inspect, lenet_edge.verify")
    )  # fmt: skip


def test_the_api_loads_no_tensorflow_and_no_command() -> None:
    python(
        "import sys, lenet_edge as le\n"
        "for name in le.__all__: getattr(le, name)\n"
        f"le.load({str(INT8)!r})\n"
        "from lenet_edge.flows import bench, predict, report, targets, verify\n"
        "heavy = {'tensorflow', 'keras', 'onnxruntime', 'ai_edge_litert', 'matplotlib', 'click'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )


def test_a_board_without_the_packages_of_the_host(tmp_path: Path) -> None:
    """A bundle leaves them out."""
    package = shutil.copytree(
        ROOT / "lenet_edge", tmp_path / "lenet_edge",
        ignore=shutil.ignore_patterns("__pycache__", "train", "export", "train.py", "*.npz"),
    )  # fmt: skip
    assert not (package / "train").exists()
    done = subprocess.run(
        [sys.executable, "-c",
         "import sys, lenet_edge as le\n"
         f"assert le.__file__.startswith({str(tmp_path)!r}), le.__file__\n"
         f"print(le.load({str(INT8)!r}))\n"
         "try: le.train()\n"
         "except le.LenetEdgeError as error: print(error)"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded, error = done.stdout.splitlines()
    assert loaded.startswith("Artifact(")
    assert error == (
        "a bundle for a board cannot train or export; use the machine that made the bundle"
    )


# Options for fleets and terminals. A function returns its result instead of printing its JSON.
NO_ARGUMENT = {
    "bench": {"scheduler", "share"},
    "verify": {"scheduler", "json"},
    "predict": {"camera", "json"},
    "report": {"json", "card", "models", "license", "force"},
    "targets": {"json"},
    "train": {"json"},
    "finetune": {"json"},
}


@pytest.mark.parametrize(
    "name", ["bench", "export", "finetune", "predict", "report", "targets", "train", "verify"]
)
def test_arguments_are_the_options_of_the_command(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    options = {
        max(parameter.opts, key=len).lstrip("-").replace("-", "_"): parameter
        for parameter in command.params
        if "--help" not in parameter.opts and "--debug" not in parameter.opts
    }
    arguments = dict(inspect.signature(getattr(le, name)).parameters)
    # A function takes them as one mapping. The option for one shape can be repeated.
    facts = {fact.replace("_shapes", "_shape") for fact in StatedInput.__dataclass_fields__}
    if facts <= set(options):
        options = {option: options[option] for option in options if option not in facts}
        assert arguments.pop("preprocessing").default is None
    if name != "report":
        assert arguments.pop("progress").default == "auto"
    assert {*options} - NO_ARGUMENT.get(name, set()) == {*arguments}
    for option, parameter in options.items():
        if option in arguments and isinstance(parameter.default, (int, float, bool)):
            assert arguments[option].default == parameter.default, option


def test_load() -> None:
    artifact = le.load(str(INT8))
    assert (artifact.name, artifact.precision) == ("lenet_int8.tflite", "int8")
    assert repr(artifact).startswith("Artifact('")
    assert "tflite int8" in repr(artifact)
    assert "<td" in artifact._repr_html_()


@pytest.fixture(scope="module")
def verified() -> le.BenchRun:
    return le.verify([INT8, le.load(FLOAT32)], target="litert", progress=None)


@pytest.fixture(scope="module")
def benched() -> le.BenchRun:
    return le.bench(
        [INT8, FLOAT32], target="litert", batch_size=1, max_time=0.3, rounds=2, progress=None
    )


def one_line(text: str) -> bool:
    return "\n" not in text and len(text) < 200


@pytest.mark.costly
def test_verify(verified: le.BenchRun) -> None:
    assert [(report.candidate, report.target) for report in verified.parity] == [
        (INT8.name, "litert-xnnpack"), (FLOAT32.name, "litert-xnnpack"),
    ]  # fmt: skip
    assert verified.passed
    assert one_line(repr(verified))
    assert one_line(repr(verified.parity[0]))
    html = verified._repr_html_()
    assert html.count("lenet_int8.tflite") == 1
    assert "pass" in html


@pytest.mark.costly
def test_a_file_that_fails_its_bounds_is_no_error() -> None:
    run = le.verify(INT8, target="litert", max_abs_error=0.001, progress=None)
    assert not run.passed
    (report,) = run.parity
    assert report.verdict == "fail"
    assert "a logit is off by" in report._repr_html_()


def test_bench(benched: le.BenchRun, tmp_path: Path) -> None:
    assert [m.batch_size for m in benched.measurements] == [1, 1]
    assert all(len(m.processes) >= 2 for m in benched.measurements)
    assert benched.settings["max_time_s"] == 0.3
    assert one_line(repr(benched))
    assert one_line(repr(benched.measurements[0]))
    assert "p50 µs" in benched._repr_html_()
    benched.save(tmp_path / "bench.json")
    (again,) = le.load_results(tmp_path / "bench.json")
    assert again.measurements[0].p50_s == benched.measurements[0].p50_s


def test_recommend_and_report(verified: le.BenchRun, benched: le.BenchRun, tmp_path: Path) -> None:
    benched.save(str(tmp_path / "bench.json"))
    advice = le.recommend([verified, tmp_path / "bench.json"])
    assert isinstance(advice, le.Recommendation) or benched.environment.emulated
    assert one_line(repr(advice).split(":")[0])
    nothing = le.recommend([verified, benched], max_bytes=1)
    assert isinstance(nothing, le.NothingFits)
    assert not nothing
    assert "more than the 1 of" in nothing._repr_html_()
    report = le.report([verified, benched], output=tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text() == report.render(".md")
    html = report._repr_html_()
    assert html.startswith("<iframe")
    assert "&lt;svg" in html
    report.save(tmp_path / "report.html")
    assert "<svg" in (tmp_path / "report.html").read_text()
    compared = le.report(benched, compare=benched)
    assert compared.machines[0].changes is not None


def test_results_of_two_machines_have_no_single_recommendation(benched: le.BenchRun) -> None:
    elsewhere = dataclasses.replace(benched.environment, machine="another", cores=99)
    other = dataclasses.replace(benched, environment=elsewhere)
    with pytest.raises(le.UsageError, match="results are of 2"):
        le.recommend([benched, other])
    assert len(le.report([benched, other]).machines) == 2


def test_predict() -> None:
    image = mnist.load("test").images[0]  # a 7
    photo = DIGITS / "7-hasty-crayon.jpg"
    predictions = le.predict([photo, image, "missing.png"], model=INT8, target="litert")
    assert [one.label for one in predictions] == ["7", "7", ""]
    assert 0.5 < predictions[0].confidence <= 1
    assert set(predictions[0].probabilities) == {str(digit) for digit in range(10)}
    assert "missing.png" in (predictions[2].error or "")
    assert one_line(repr(predictions[0]))
    assert predictions._repr_html_().count("<tr>") == 4
    (alone,) = le.predict(image, model=le.load(INT8), target="litert", progress=None)
    assert (alone.image, alone.label, alone.file) == ("array 0", "7", INT8.name)


def test_export_and_train_have_their_arguments_checked_before_tensorflow_loads() -> None:
    with pytest.raises(le.ModelFileError, match="no such file"):
        le.export("missing.keras")
    with pytest.raises(le.UsageError, match=r"must end in \.keras"):
        le.train(output="model.h5")
    with pytest.raises(le.UsageError, match="no recipe 'fast'"):
        le.train(recipe="fast")
    with pytest.raises(le.UsageError, match=r"is not a Keras model; finetune needs a \.keras"):
        le.finetune(INT8)


CHECKPOINT = str(ROOT / "exported" / "lenet.keras")


@pytest.mark.costly
@pytest.mark.parametrize(
    "call", ["train(output='{0}/x.keras')", f"export({CHECKPOINT!r}, output_dir='{{0}}')"]
)
def test_a_board_is_told_the_pip_line(call: str, tmp_path: Path) -> None:
    text = python(
        "import sys, lenet_edge as le\n"
        "sys.modules['tensorflow'] = None\n"
        f"try: le.{call.format(tmp_path)}\n"
        "except le.MissingPackageError as error: print(error)"
    )
    assert text.startswith("tensorflow is not installed; install it with: pip install")


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: le.load("missing.tflite"), le.ModelFileError, "no such file"),
    (lambda: le.load_results("missing.json"), le.DataError, "cannot read"),
    (lambda: le.verify(INT8, data="images.npz"), le.UsageError, "--data needs --reference"),
    (lambda: le.verify(INT8, target="litret"), le.TargetError, "litret"),
    (lambda: le.bench(INT8, min_time=1, max_time=0.5), le.UsageError, "--max-time"),
    (lambda: le.bench(INT8, resume=True), le.UsageError, "--json FILE"),
    (lambda: le.bench(INT8, python="no/python"), le.UsageError, "no/python is no file"),
    (lambda: le.bench(INT8, csv=INT8), le.UsageError, "lenet_int8.tflite would replace the input"),
    (lambda: le.verify(INT8, logits=INT8), le.UsageError, "would replace the input /"),
    (
        lambda: le.bench(INT8, scenario="multi-stream", batch_size=4),
        le.UsageError, "batches of 8",
    ),
    (lambda: le.predict([], model="missing.tflite"), le.ModelFileError, "no such file"),
    (lambda: le.report([], output="report.pdf"), le.DataError, "an .html or .md file"),
    (lambda: le.recommend([]), le.UsageError, "results are of 0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS, ids=[text for *_, text in ERRORS])
def test_errors_are_one_line(call: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)) as caught:
        call()
    assert isinstance(caught.value, le.LenetEdgeError)
    assert "\n" not in str(caught.value)


@pytest.mark.costly
def test_progress_is_a_callback(capfd: pytest.CaptureFixture[str]) -> None:
    events: list[le.ProgressEvent] = []
    le.verify(INT8, target="litert", progress=events.append)
    assert [str(event) for event in events] == [
        "Verify 1/1: lenet_int8.tflite on litert-xnnpack"
    ]  # fmt: skip
    le.verify(INT8, target="litert", progress=None)
    assert capfd.readouterr() == ("", "")


HOSTILE = "<script>alert('&')</script>"


def test_names_are_escaped(verified: le.BenchRun, benched: le.BenchRun) -> None:
    artifact = dataclasses.replace(le.load(INT8), path=Path(HOSTILE), labels=(HOSTILE,))
    skipped = le.Skipped(HOSTILE, HOSTILE, HOSTILE)
    run = dataclasses.replace(
        benched,
        measurements=tuple(dataclasses.replace(m, artifact=HOSTILE) for m in benched.measurements),
        parity=tuple(
            dataclasses.replace(p, candidate=HOSTILE, reasons=(HOSTILE,)) for p in verified.parity
        ),
        skipped=(skipped,),
    )
    results: list[Any] = [
        artifact, run, skipped, le.Prediction(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
        le.recommend(run), le.report(run), le.FleetRun((run,)),
        le.TargetStatus(dataclasses.replace(TARGET, name=HOSTILE), False, HOSTILE),
    ]  # fmt: skip
    for result in results:
        html = result._repr_html_()
        assert "lt;script" in html, result
        assert "<script>alert" not in html, result
    assert "<script>" not in html_table([{HOSTILE: HOSTILE}], HOSTILE)
    assert "<td" not in ResultList[le.Prediction]()._repr_html_()


TARGET = le.Target("litert-xnnpack", "litert", ("tflite",), "cpu", "XNNPACK", "p", "litert", 1)


def test_reprs_are_one_line() -> None:
    assert repr(TARGET) == "Target('litert-xnnpack' for tflite on cpu)"
    assert one_line(repr(le.TargetStatus(TARGET, True, "2.3.0")))


if TYPE_CHECKING:

    def type_checkers_see_the_real_types() -> None:
        artifact = assert_type(le.load("x.tflite"), le.Artifact)
        run = assert_type(le.verify(artifact, target=["litert"]), le.BenchRun)
        assert_type(le.bench([artifact, "y.onnx"], batch_size=[1, 8]), le.BenchRun)
        assert_type(le.recommend([run, "r.json"]), le.Recommendation | le.NothingFits)
        assert_type(le.report(run), le.Report)
        assert_type(le.predict(np.zeros((28, 28))), ResultList[le.Prediction])
        assert_type(le.targets(progress=print), ResultList[le.TargetStatus])
        assert_type(le.export(int8=True), ResultList[le.Artifact])
        assert_type(le.train(epochs=1), le.TrainingResult)
        assert_type(le.finetune(artifact, quantize="int4"), le.TrainingResult)
        assert le.nonsense  # type: ignore[attr-defined]
