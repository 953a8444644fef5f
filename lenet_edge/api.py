"""The Python API: the functions behind the commands, for notebooks and programs.

Each function does the work of the command of its name. Its keyword arguments have the names and
defaults of the command's options; an option that takes a list accepts a single value too. The
functions import their work when they are called, so that a board can use all of them but `train`
and `export`.

Errors are `LenetEdgeError`: one line with the cause and the fix. Their texts name options as the
command does, so that ``--max-time`` is the argument ``max_time``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lenet_edge.errors import TargetError, UsageError
from lenet_edge.support.html_table import ResultList

if TYPE_CHECKING:
    from lenet_edge.artifacts.artifact import Artifact
    from lenet_edge.artifacts.stated_input import StatedInput
    from lenet_edge.flows.console import Console
    from lenet_edge.flows.display import Progress
    from lenet_edge.flows.fleet_session import Choice
    from lenet_edge.flows.predict import Prediction
    from lenet_edge.flows.train import TrainingResult
    from lenet_edge.report.page import Report
    from lenet_edge.report.recommend import NothingFits, Recommendation
    from lenet_edge.results.result_file import BenchRun, FleetRun
    from lenet_edge.selection import TargetStatus

# The run.sh of a bundle sets the folder, so that it works from any working directory.
EXPORTED = Path(os.environ.get("LENET_EDGE_EXPORTED", "exported"))

Item = TypeVar("Item")
PathLike = str | os.PathLike[str]
if TYPE_CHECKING:
    Files = PathLike | Artifact | Sequence[PathLike | Artifact]
    Results = PathLike | BenchRun | FleetRun | Sequence[PathLike | BenchRun | FleetRun]


def load(path: PathLike) -> Artifact:
    """Read a model file and its manifest, and check that they belong together.

    A file without a manifest is opened with an installed runtime, which reports its tensors.

    Args:
        path: a .tflite, .onnx, .keras, .wasm or .c file.

    Raises:
        ModelFileError: the file is missing, damaged, or not the one that its manifest describes.
    """
    from lenet_edge.selection import load_artifacts

    (artifact,) = load_artifacts([Path(path)], EXPORTED)
    return artifact


def load_results(path: PathLike) -> list[BenchRun]:
    """Read a result file that a command or `BenchRun.save` wrote.

    Args:
        path: a JSON file of any schema version.

    Returns:
        A run for each machine in the file.

    Raises:
        DataError: the file is missing, damaged, or of a newer schema.
    """
    from lenet_edge.results.result_file import load_runs

    return list(load_runs(Path(path)))


def targets(*, progress: Progress = "auto") -> ResultList[TargetStatus]:
    """Probe every target with a tiny model, each in a fresh process.

    Args:
        progress: a function that is called with each `ProgressEvent`; "auto" for a bar in a
            notebook or on a terminal; None for no display.

    Returns:
        The status of every target, with the reason if it cannot run on this machine.
    """
    from lenet_edge.flows.targets import probe_targets

    return ResultList(probe_targets(_console(progress)))


def train(
    *,
    network: str = "lenet",
    recipe: str = "quick",
    epochs: int | None = None,
    seed: int = 1,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    dataset: PathLike = "mnist",
    data_dir: PathLike | None = None,
    strategy: Literal["one", "mirrored"] | None = None,
    teacher: PathLike | None = None,
    seeds: int = 1,
    mlflow: PathLike | None = None,
    quantize: Literal["int8", "int4"] | None = None,
    resume: bool = False,
    output: PathLike | None = None,
    progress: Progress = "auto",
) -> TrainingResult:
    """Train a network and write its checkpoint.

    Args:
        network: a name of ``lenet-edge train --network``, such as "lenet" or "ds-cnn".
        recipe: "quick", "best" or "classic".
        epochs: the number of epochs; None means the recipe's.
        seed: the same seed on the same machine trains the same model.
        batch_size: the number of images in a batch; None means the recipe's.
        learning_rate: the learning rate, or its peak; None means the recipe's.
        dataset: "mnist", "fashion-mnist", an .npz or CSV file, or a folder with a folder of images
            for each class.
        data_dir: the folder of Fashion-MNIST's IDX files; None downloads them.
        strategy: share each batch with tf.distribute; None means this process alone.
        teacher: a Keras classifier of the same images and classes to distil.
        seeds: the number of trainings, with the seeds from `seed` on. The model with the median
            accuracy becomes the checkpoint.
        mlflow: the folder of an MLflow store that gets the training.
        quantize: "int8" or "int4" for quantization-aware training; None for float.
        resume: continue a training that was interrupted.
        output: the checkpoint, a .keras file; None means exported/NETWORK.keras.
        progress: see `targets`.

    Returns:
        The checkpoint and the history of its training.

    Raises:
        MissingPackageError: TensorFlow is not installed.
        LenetEdgeError: the training failed, or another one is unfinished.
    """
    from lenet_edge.flows.host import host_packages

    with host_packages():
        from lenet_edge.flows.train import train

        result = train(
            Path(output or EXPORTED / f"{network}.keras"),
            _console(progress),
            recipe,
            epochs,
            seed,
            batch_size,
            learning_rate,
            os.fspath(dataset),
            None if data_dir is None else Path(data_dir),
            strategy,
            resume,
            network,
            None if teacher is None else Path(teacher),
            seeds,
            None if mlflow is None else Path(mlflow),
            quantize,
        )
    assert result is not None  # that is for the strategy "multi-worker"
    return result


def finetune(
    model: PathLike | Artifact,
    *,
    quantize: Literal["int8", "int4"] = "int8",
    epochs: int | None = None,
    seed: int = 1,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    resume: bool = False,
    dataset: PathLike = "mnist",
    data_dir: PathLike | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    mlflow: PathLike | None = None,
    output: PathLike | None = None,
    progress: Progress = "auto",
) -> TrainingResult:
    """Train a Keras classifier for its int8 or int4 file, and write a new checkpoint.

    Args:
        model: a .keras or .h5 file, from `train` or from elsewhere.
        quantize: "int8", or "int4" for weights of 4 bits in dense layers.
        epochs: the number of epochs; None means 5, or more for few images.
        seed: the same seed on the same machine trains the same model.
        batch_size: the number of images in a batch; None means 128, or fewer for few images.
        learning_rate: the peak of the learning rate; None means 0.001.
        resume: continue a training that was interrupted.
        dataset: see `train`.
        data_dir: see `train`.
        preprocessing: see `export`.
        mlflow: see `train`.
        output: the checkpoint to write, a .keras file; None means NAME_qat.keras beside `model`.
        progress: see `targets`.

    Returns:
        The new checkpoint and the history of its training.

    Raises:
        MissingPackageError: TensorFlow is not installed.
        ModelFileError: the model cannot be loaded, or a layer is not covered.
        DataError: the images do not fit the model.
        LenetEdgeError: the training failed, or another one is unfinished.
    """
    from lenet_edge.flows.host import host_packages

    with host_packages():
        from lenet_edge.flows.finetune import finetune

        return finetune(
            _path(model),
            None if output is None else Path(output),
            _console(progress),
            quantize,
            epochs,
            seed,
            batch_size,
            learning_rate,
            os.fspath(dataset),
            None if data_dir is None else Path(data_dir),
            resume,
            _stated(preprocessing),
            None if mlflow is None else Path(mlflow),
        )


def export(
    model: PathLike | Artifact | None = None,
    *,
    int8: bool = False,
    int4: bool = False,
    float16: bool = False,
    dynamic: bool = False,
    int16x8: bool = False,
    all: bool = False,
    format: str | Sequence[str] = ("tflite", "onnx"),
    board: str | None = None,
    cpu: Literal["auto", "x86", "arm"] = "auto",
    batch_size: int | None = None,
    calibration: PathLike | None = None,
    dataset: PathLike = "mnist",
    data_dir: PathLike | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    output_dir: PathLike = EXPORTED,
    progress: Progress = "auto",
) -> ResultList[Artifact]:
    """Export a checkpoint to TFLite, ONNX, C or WebAssembly, in float32 and other precisions.

    Args:
        model: a .keras or .onnx file; None means exported/lenet.keras.
        int8: export int8 files too.
        int4: export int8 files with int4 weights in dense layers too.
        float16: export files with float16 weights too.
        dynamic: export files with int8 weights and float activations too.
        int16x8: export files with int16 activations and int8 weights too.
        all: export every precision that the format and the model have.
        format: "tflite", "onnx", "native", "wasm", "ncnn", "c", "firmware", or several of them.
        board: the board of "firmware", such as "pico".
        cpu: the processor that int8 ONNX files will run on; "auto" means one like this.
        batch_size: a fixed batch size; None leaves it free.
        calibration: images that calibrate int8 files and judge all files: an .npz, .npy or CSV
            file, or a folder of images.
        dataset: see `train`.
        data_dir: see `train`.
        preprocessing: facts about the model's input by the names of the options: "pixel_scale",
            "pixel_offset", "mean", "std", "channels", "resize" and "labels".
        output_dir: the folder for the files.
        progress: see `targets`.

    Returns:
        The exported files.

    Raises:
        MissingPackageError: TensorFlow or a converter is not installed.
        ModelFileError: the checkpoint cannot be exported.
        DataError: the images do not fit the checkpoint.
    """
    from lenet_edge.flows.host import host_packages

    chosen = {
        "float16": float16, "dynamic": dynamic, "int8": int8, "int4": int4, "int16x8": int16x8
    }  # fmt: skip
    precisions = None if all else ["float32", *(name for name in chosen if chosen[name])]
    path = EXPORTED / "lenet.keras" if model is None else _path(model)
    with host_packages():
        from lenet_edge.flows.export import export

        return ResultList(
            export(
                path,
                Path(output_dir),
                _console(progress),
                _several(format, str),
                precisions,
                os.fspath(dataset),
                None if data_dir is None else Path(data_dir),
                cpu,
                batch_size,
                None if calibration is None else Path(calibration),
                _stated(preprocessing),
                board=board,
            )
        )


def verify(
    files: Files = (),
    *,
    target: str | Sequence[str] = (),
    num_threads: int = 1,
    max_accuracy_drop: float | None = None,
    min_agreement: float | None = None,
    max_abs_error: float | None = None,
    min_snr_db: float | None = None,
    min_cosine: float | None = None,
    bound: Mapping[str, Mapping[str, float]] | None = None,
    reference: PathLike | Artifact | None = None,
    data: PathLike | None = None,
    delegate: str | None = None,
    delegate_option: Mapping[str, str] | None = None,
    allow_fallback: bool = False,
    layers: bool = False,
    logits: PathLike | None = None,
    plots: PathLike | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    progress: Progress = "auto",
) -> BenchRun:
    """Compare each file with the float model on all test images, on every chosen target.

    Args:
        files: model files; none means every exported file in ./exported.
        target: targets, runtimes or formats; none means every installed target.
        num_threads: threads for one inference.
        max_accuracy_drop: in percentage points; None means the default of the precision.
        min_agreement: the least share of images with the same top class, in percent.
        max_abs_error: the largest error of a logit.
        min_snr_db: the lowest signal-to-noise ratio of outputs that are no classes.
        min_cosine: the lowest cosine between the outputs of both files; None means any.
        bound: bounds of single outputs, such as {"boxes": {"min_snr_db": 30}}.
        reference: a model file to compare with; None means the recorded float model.
        data: images, and labels if there are any, for `reference`: an .npz, .npy or CSV file, or a
            folder of images. For models that do not take one image, an .npz file with an array for
            each input. Without it, recorded images or random inputs.
        delegate: an external TFLite delegate: its .so file or its short name.
        delegate_option: options of the delegate, or of ONNX Runtime's provider.
        allow_fallback: accept a delegate that leaves nodes to the CPU.
        layers: compare each layer of a quantized file with its float sibling.
        logits: an .npz file for the logits of each pair, named "FILE on TARGET".
        plots: a folder for pictures of each pair.
        preprocessing: see `export`.
        progress: see `targets`.

    Returns:
        A run whose `parity` has a report for each file on each target, and whose `skipped` names
        what did not run. Its `passed` tells whether every file passed.

    Raises:
        ModelFileError: a file cannot be used, or its float model was not recorded.
        TargetError: no file fits the targets.
        UsageError: `data` without `reference`, or `logits` is an input.
    """
    from lenet_edge.flows.verify import VerifySettings, verify

    settings = VerifySettings(
        {
            "max_accuracy_drop": max_accuracy_drop,
            "min_agreement": min_agreement,
            "max_abs_error": max_abs_error,
            "min_snr_db": min_snr_db,
            "min_cosine": min_cosine,
        },
        num_threads,
        None if reference is None else _path(reference),
        None if data is None else Path(data),
        layers,
        None if logits is None else Path(logits),
        None if plots is None else Path(plots),
        _stated(preprocessing),
        bound or {},
    )
    console = _console(progress)
    choice = _choice(
        files, target, delegate, delegate_option, allow_fallback, console, settings.stated
    )
    inputs = [artifact.path for artifact in choice.artifacts]
    _check_outputs({"logits": logits}, [*inputs, settings.reference, settings.data])
    return verify(choice, settings, console)


def bench(
    files: Files = (),
    *,
    target: str | Sequence[str] = (),
    batch_size: int | Sequence[int] | None = None,
    num_threads: int | Sequence[int] = 1,
    scenario: Literal["single-stream", "offline", "multi-stream"] | None = None,
    precision: float = 0.01,
    min_time: float = 0.3,
    max_time: float = 5.0,
    rounds: int = 3,
    timeout: float = 300.0,
    python: PathLike | Mapping[str, PathLike] | None = None,
    delegate: str | None = None,
    delegate_option: Mapping[str, str] | None = None,
    allow_fallback: bool = False,
    json: PathLike | None = None,
    resume: bool = False,
    csv: PathLike | None = None,
    pytest_benchmark: PathLike | None = None,
    layers: bool = False,
    layers_csv: PathLike | None = None,
    node_data: PathLike | None = None,
    inputs: PathLike | None = None,
    count: str | Sequence[str] = (),
    preprocessing: Mapping[str, Any] | None = None,
    progress: Progress = "auto",
) -> BenchRun:
    """Check each file on 256 test images, then measure its latency in fresh processes.

    Args:
        files: model files; none means every exported file in ./exported.
        target: targets, runtimes or formats; none means every installed target.
        batch_size: batch sizes to measure; None means those of `scenario`, or 1, 8, 32 and 128.
        num_threads: numbers of threads to measure with.
        scenario: a scenario of MLPerf, which decides the batch sizes and the ranking.
        precision: stop a cell when the 95 % interval of its median is within this fraction.
        min_time: the least time to sample a cell, in seconds.
        max_time: the most time to sample a cell, in seconds.
        rounds: processes that share the time of a cell and pool their samples.
        timeout: seconds after which a process is stopped.
        python: the interpreter of another environment for the workers, or such interpreters by
            the name of a target or runtime.
        delegate: see `verify`.
        delegate_option: see `verify`.
        allow_fallback: see `verify`.
        json: a result file that is rewritten after each process.
        resume: continue the run that `json` holds.
        csv: a file for a row of each cell.
        pytest_benchmark: a file that ``pytest-benchmark compare`` reads.
        layers: also measure the time of each layer.
        layers_csv: a file for a row of each layer; implies `layers`.
        node_data: a folder for the times of the layers as node data for Model Explorer; implies
            `layers`.
        inputs: an .npz file with an array for each input; None means test images or random values.
        count: processors such as "x86-64", "arm64" and "cortex-m4", to count the instructions of C
            files on; without targets, no latency is measured.
        preprocessing: see `export`.
        progress: see `targets`.

    Returns:
        A run whose `measurements` has the samples of each cell, and `instruction_counts` the
        counts.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; `json` holds what was measured.
        TargetError: nothing could be measured.
        DataError: the run to resume is of another machine or other settings.
        UsageError: two arguments contradict each other, or an output is an input.
    """
    from lenet_edge.flows.bench import BenchSettings, bench
    from lenet_edge.report import csv_and_pytest
    from lenet_edge.report.layer_files import write_layer_files

    if resume and json is None:
        raise UsageError("--resume needs the run's file: --json FILE")
    settings = BenchSettings(
        None if batch_size is None else _several(batch_size, int),
        _several(num_threads, int),
        scenario,
        precision,
        min_time,
        max_time,
        rounds,
        timeout,
        _pythons(python),
        None if inputs is None else Path(inputs),
        layers=bool(layers or layers_csv or node_data),
        count=_several(count, str),
    )
    console, stated = _console(progress), _stated(preprocessing)
    choice = _choice(files, target, delegate, delegate_option, allow_fallback, console, stated)
    used = [*(artifact.path for artifact in choice.artifacts), inputs]
    outputs = {"json": json, "csv": csv, "pytest_benchmark": pytest_benchmark}
    _check_outputs({**outputs, "layers_csv": layers_csv}, used)
    run, stopped = bench(choice, settings, console, None if json is None else Path(json), resume)
    if csv is not None:
        csv_and_pytest.write_text(Path(csv), csv_and_pytest.to_csv(run))
    if pytest_benchmark is not None:
        csv_and_pytest.write_text(Path(pytest_benchmark), csv_and_pytest.to_pytest_benchmark(run))
    csv_of_layers, folder = (None if p is None else Path(p) for p in (layers_csv, node_data))
    write_layer_files(run, csv_of_layers, folder)
    if stopped:
        raise KeyboardInterrupt(f"Stopped with {run.remaining} processes left to run")
    if not (run.measurements or run.instruction_counts or run.cycle_counts):
        reasons = [f"{skipped.target}: {skipped.reason}" for skipped in run.skipped]
        raise TargetError(f"nothing could be measured: {'; '.join(reasons[:3])}")
    return run


def predict(
    images: Any,
    *,
    model: PathLike | Artifact | None = None,
    target: str | None = None,
    num_threads: int = 1,
    preprocessing: Mapping[str, Any] | None = None,
    progress: Progress = "auto",
) -> ResultList[Prediction]:
    """Classify images.

    Args:
        images: a PNG or JPEG file, a folder of them, a NumPy array of pixels from 0 to 255 of
            the model's shape, or a list of these.
        model: the exported file that predicts; None means the smallest .tflite file in
            ./exported, or else the smallest .onnx file.
        target: a target, a runtime or a format; None means the best that is installed.
        num_threads: threads for one inference.
        preprocessing: see `export`.
        progress: see `targets`.

    Returns:
        A prediction for each image. The `error` of a prediction names the reason if the image
        could not be used.

    Raises:
        ModelFileError: the file cannot be used.
        TargetError: the file does not run on this machine.
        DataError: a folder holds no images.
    """
    from lenet_edge.flows.predict import Source, find_images, find_models, predict

    sources: list[Source] = []
    single = isinstance(images, (str, os.PathLike)) or hasattr(images, "dtype")
    for image in [images] if single else images:
        if isinstance(image, (str, os.PathLike)):
            sources += find_images([os.fspath(image)])
        else:
            sources.append(Source(f"array {len(sources)}", pixels=image.tolist()))
    console, stated = _console(progress), _stated(preprocessing)
    models = find_models(None if model is None else _path(model), EXPORTED, console.note, stated)
    with console.progress_bar("Predict", len(sources)) as step:
        used, _, predictions = predict(
            sources, models, target, num_threads, lambda prediction: step(prediction.image)
        )
    if used.preprocessing.is_assumed:
        from lenet_edge.artifacts.stated_input import question

        console.note(question(used))
    return ResultList(predictions)


def recommend(
    results: Results,
    *,
    max_accuracy_drop: float | None = None,
    max_latency: float | None = None,
    max_bytes: int | None = None,
    max_flash: int | None = None,
    max_ram: int | None = None,
    batch_size: int | None = None,
) -> Recommendation | NothingFits:
    """Recommend the fastest file and target that passed parity and keeps the limits.

    Args:
        results: runs of `verify` and `bench` on one machine, or result files.
        max_accuracy_drop: in percentage points; None means the bound of `verify`.
        max_latency: the maximum latency of a batch, in seconds.
        max_bytes: the maximum bytes to ship: the file, or what a C file was built to.
        max_flash: the maximum flash of a microcontroller, for files that ran on a Cortex-M.
        max_ram: the maximum RAM, with the stack.
        batch_size: the batch size to recommend for; None means the smallest that was measured.

    Returns:
        The recommendation, or `NothingFits`, which is false and names what each file missed.

    Raises:
        UsageError: the results are of several machines.
        DataError: a result file cannot be read, or nothing was measured at `batch_size`.
    """
    from lenet_edge.flows.report import recommend
    from lenet_edge.report.eligibility import Limits

    limits = Limits(max_accuracy_drop, max_latency, max_bytes, batch_size, max_flash, max_ram)
    return recommend(_results(results), limits)


def report(
    results: Results,
    *,
    output: PathLike | None = None,
    max_accuracy_drop: float | None = None,
    max_latency: float | None = None,
    max_bytes: int | None = None,
    max_flash: int | None = None,
    max_ram: int | None = None,
    batch_size: int | None = None,
    compare: PathLike | BenchRun | None = None,
    history: PathLike | None = None,
) -> Report:
    """Build the report of some results, with tables, figures and a recommendation.

    A notebook shows the report as a page; `Report.save` writes it.

    Args:
        results: runs of `verify` and `bench`, or result files, of any number of machines.
        output: an .html or .md file to write the report to; None writes nothing.
        max_accuracy_drop: see `recommend`.
        max_latency: see `recommend`.
        max_bytes: see `recommend`.
        max_flash: see `recommend`.
        max_ram: see `recommend`.
        batch_size: see `recommend`.
        compare: an earlier run of the same machine, to show the changes since.
        history: a folder of result files, to show the figures over commits.

    Raises:
        MissingPackageError: a package of the extra "report" is not installed.
        DataError: a result file cannot be read, or nothing was measured at `batch_size`.
    """
    from lenet_edge.flows.report import report
    from lenet_edge.report.eligibility import Limits
    from lenet_edge.report.page import checked_suffix
    from lenet_edge.results.result_file import BenchRun

    checked_suffix(Path("report.html") if output is None else Path(output))
    files = [*_results(results), compare]
    _check_outputs({"output": output}, [r for r in files if isinstance(r, (str, os.PathLike))])
    limits = Limits(max_accuracy_drop, max_latency, max_bytes, batch_size, max_flash, max_ram)
    base = compare if compare is None or isinstance(compare, BenchRun) else Path(compare)
    folder = None if history is None else Path(history)
    page = report(_results(results), limits, base, folder, EXPORTED)
    if output is not None:
        page.save(Path(output))
    return page


def _check_outputs(
    outputs: Mapping[str, PathLike | None], inputs: Iterable[PathLike | None]
) -> None:
    """Check that no output replaces an input; both are by the names of their arguments."""
    from lenet_edge.artifacts.output_paths import Output, check_outputs

    check_outputs(
        [Output(name, Path(path)) for name, path in outputs.items() if path is not None],
        [("", Path(path)) for path in inputs if path is not None],
    )


def _stated(facts: Mapping[str, Any] | None) -> StatedInput:
    from lenet_edge.artifacts.stated_input import StatedInput

    return StatedInput.parse(facts or {})


def _console(progress: Progress) -> Console:
    from lenet_edge.flows.display import console_for

    return console_for(progress)


def _several(value: Item | Sequence[Item], kind: type[Item]) -> tuple[Item, ...]:
    """Return a single value as a tuple of one, and several as a tuple."""
    if isinstance(value, kind):
        return (value,)
    return tuple(value)  # type: ignore[arg-type]


def _path(file: PathLike | Artifact) -> Path:
    return Path(file) if isinstance(file, (str, os.PathLike)) else file.path


def _choice(
    files: Files,
    target: str | Sequence[str],
    delegate: str | None,
    delegate_option: Mapping[str, str] | None,
    allow_fallback: bool,
    console: Console,
    stated: StatedInput,
) -> Choice:
    from lenet_edge.artifacts.artifact import Artifact
    from lenet_edge.flows.fleet_session import Choice
    from lenet_edge.selection import load_artifacts

    listed = [files] if isinstance(files, (str, os.PathLike, Artifact)) else list(files)
    artifacts = [] if listed else load_artifacts([], EXPORTED, console.note, stated)
    for file in listed:
        if isinstance(file, Artifact):
            artifacts.append(stated.describe(file))
        else:
            artifacts += load_artifacts([Path(file)], EXPORTED, console.note, stated)
    options = tuple((delegate_option or {}).items())
    return Choice(artifacts, _several(target, str), delegate, options, allow_fallback)


def _pythons(python: PathLike | Mapping[str, PathLike] | None) -> dict[str, Path]:
    if python is None:
        return {}
    named = {"": python} if isinstance(python, (str, os.PathLike)) else python
    paths = {name: Path(path).absolute() for name, path in named.items()}
    for path in paths.values():
        if not path.is_file():
            raise UsageError(f"--python {path} is no file; give the path of a venv's bin/python")
    return paths


def _results(results: Results) -> list[Path | BenchRun | FleetRun]:
    from lenet_edge.results.result_file import BenchRun, FleetRun

    kinds = (str, os.PathLike, BenchRun, FleetRun)
    listed: Iterable[Any] = [results] if isinstance(results, kinds) else results
    return [Path(r) if isinstance(r, (str, os.PathLike)) else r for r in listed]
