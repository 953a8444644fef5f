"""Train a checkpoint a little longer, with the rounding of its int8 or int4 file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge.artifacts.file_check import check_format, check_path_encoding
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.data.summary import DataSummary
from lenet_edge.errors import DataError, UsageError
from lenet_edge.flows.console import Console
from lenet_edge.flows.mlflow_log import check_mlflow, log_training
from lenet_edge.flows.train import TrainingResult, interruption
from lenet_edge.train.recipe import FINETUNE, choose_recipe
from lenet_edge.train.saved_state import STATE_FILE, TrainingSettings, training_folder

if TYPE_CHECKING:
    from lenet_edge.data.dataset import Dataset
    from lenet_edge.export.source import ExportSource


def finetune(
    model: Path,
    output: Path | None,
    console: Console,
    quantize: str,
    epochs: int | None = None,
    seed: int = 1,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    dataset: str = "mnist",
    data_dir: Path | None = None,
    resume: bool = False,
    stated: StatedInput = NOTHING_STATED,
    mlflow: Path | None = None,
) -> TrainingResult:
    """Train a Keras classifier with rounding, and write it as a new checkpoint.

    Args:
        model: the checkpoint to start from, a .keras or .h5 file.
        output: the checkpoint to write, a .keras file; None means NAME_qat.keras beside `model`.
        console: the display.
        quantize: "int8" or "int4".
        epochs: the number of epochs; None means 5, or more for few images.
        seed: the seed of every random choice.
        batch_size: the number of images in a batch; None means 128, or fewer for few images.
        learning_rate: the peak of the learning rate; None means the recipe's.
        dataset: see `datasets.load`.
        data_dir: see `datasets.load`.
        resume: continue a training that was interrupted.
        stated: the facts about the model's input that the user states.
        mlflow: the folder of an MLflow store that gets the training; None means none.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; its text says if the training can be resumed.
        ModelFileError: the model cannot be loaded, or a layer is not covered.
        DataError: the images do not fit the model.
        LenetEdgeError: the training failed, or another one is unfinished.
    """
    if check_format(model) != "keras":
        raise UsageError(f"{model} is not a Keras model; finetune needs a .keras or .h5 file")
    output = output or model.with_name(f"{model.stem}_qat.keras")
    if output.suffix != ".keras":
        raise UsageError(f"--output {output} must end in .keras")
    check_path_encoding(output)
    if mlflow:
        check_mlflow(mlflow)
    from lenet_edge.flows import datasets

    training, test = datasets.load_and_describe(console, dataset, data_dir, model, stated)
    recipe, adaptation = choose_recipe(
        FINETUNE.name, len(training), epochs, batch_size, learning_rate
    )
    if adaptation:
        console.note(adaptation)
    console.note("Loading TensorFlow ...")
    from lenet_edge.flows.recorded_training import train
    from lenet_edge.train.loop import StartingModel

    with console.alone_in(output.parent):
        source = _load(model, quantize, training, test, console, stated)
        keras_model, rule = source.model.for_converters, source.artifact.preprocessing
        settings = TrainingSettings(
            recipe, seed, network="", quantize=quantize, start_sha256=source.artifact.sha256,
            preprocessing=str(rule),
        )  # fmt: skip
        keras_model.trainable = True  # frozen layers must adapt to the rounding too
        start = StartingModel(keras_model, rule)
        result = None
        try:
            with console.training_progress() as report:
                artifact, history = train(
                    output, training, test, settings, resume, report, start=start
                )
                data = DataSummary.of(training, test)
                result = TrainingResult(artifact, history, len(test), data)
        except KeyboardInterrupt:
            if result is None:  # else Ctrl-C came after the end
                raise interruption((training_folder(output) / STATE_FILE).exists()) from None
    if mlflow:
        log_training(mlflow, output, result.history)
    return result


def _load(
    path: Path,
    quantize: str,
    training: Dataset,
    test: Dataset,
    console: Console,
    stated: StatedInput,
) -> ExportSource:
    """Load the model, check that the data fit it, and settle the preprocessing of its images.

    Raises:
        ModelFileError: a layer is not covered.
        DataError: the images or the classes are not those of the model.
    """
    from lenet_edge.export.settle_input import Options, settle
    from lenet_edge.export.source import load_source
    from lenet_edge.fake_quantization import FakeQuantizedNetwork

    source = load_source(path, stated)
    advice = "give its own images with --dataset"
    if source.image_shape != training.image_shape:
        expected, actual = (
            " x ".join(map(str, shape)) for shape in (source.image_shape, training.image_shape)
        )
        raise DataError(
            f"{path.name} takes images of {expected}, and {training.name} has {actual}; {advice}"
        )
    if source.num_classes != len(training.class_names):
        raise DataError(
            f"{path.name} has {source.num_classes or 'no'} classes, and {training.name} has"
            f" {len(training.class_names)}; {advice}"
        )
    loaded, source = source, source.without_rescaling()
    # Before the images are predicted, which takes longer.
    FakeQuantizedNetwork(source.model.for_converters, quantize)
    notes: list[str] = []
    source, _, evaluation = settle(source, training, test, Options(stated=stated), notes.append)
    if evaluation is None:
        raise DataError(f"the images of {training.name} are not those of {path.name}; {advice}")
    for note in notes:
        console.note(note)
    if source.model is not loaded.model:
        rule = source.artifact.preprocessing
        console.note(f"The Rescaling layer of {path.name} becomes its preprocessing: {rule}")
    return source
