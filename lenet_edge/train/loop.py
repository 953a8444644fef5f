"""Training loop in plain TensorFlow: a gradient tape, a loss and an optimizer."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lenet_edge.model  # noqa: F401  imported first: it silences TensorFlow
from lenet_edge import networks
from lenet_edge.artifacts import preprocessing
from lenet_edge.artifacts.artifact import (
    Artifact,
    TensorSpec,
    announce,
    describe_file,
    write_manifest,
)
from lenet_edge.artifacts.preprocessing import UNIT, Preprocessing
from lenet_edge.artifacts.trained_ranges import TrainedRanges, add_ranges
from lenet_edge.data.dataset import Dataset, check_dataset
from lenet_edge.errors import LenetEdgeError, UsageError
from lenet_edge.fake_quantization import FakeQuantizedNetwork
from lenet_edge.support.files import atomic_write
from lenet_edge.train import augmentation, fused_forward
from lenet_edge.train.distribution import Replicas
from lenet_edge.train.equalization import equalize
from lenet_edge.train.input_values import to_input_values
from lenet_edge.train.recipe import Recipe
from lenet_edge.train.saved_state import (
    LOSS_EVERY,
    STATE_FILE,
    History,
    TrainingSettings,
    TrainingState,
)
from lenet_edge.train.teacher import Teacher

import numpy as np  # isort: skip
import numpy.typing as npt  # isort: skip
import tensorflow as tf  # isort: skip


_CALIBRATION_BATCH = 128  # a range is the mean of the extremes of such batches
_CALIBRATION_IMAGES = 1280


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training, reported after every 100 steps and after each epoch.

    `epoch` and `step` count from 1. `loss` is that of the last step. After an epoch, `accuracy` is
    the fraction of correct predictions on the data set named `watched`; before, it is None.
    """

    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    learning_rate: float
    loss: float
    images_per_s: float
    accuracy: float | None = None
    watched: str = ""


def train(
    training: Dataset,
    test: Dataset,
    settings: TrainingSettings,
    folder: Path | None = None,
    resume: bool = False,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    replicas: Replicas | None = None,
    start: StartingModel | None = None,
    teacher: Teacher | None = None,
) -> tuple[Any, History]:
    """Train a network, and return the Keras model and the history of the training.

    The next epoch depends only on the settings, the number of the epoch and the saved state. A
    training that is killed and resumed therefore ends with the same weights, bit for bit.

    Args:
        training: the images to train on. The recipe may hold some of them out for validation.
        test: the images for the final accuracy. Without validation images, they are also
            evaluated after each epoch. No setting is ever chosen by them.
        settings: the network, the recipe and the seed. Two trainings with the same settings, on
            one machine, end with the same weights.
        folder: the folder for the state after each epoch; None saves nothing.
        resume: whether to continue from the state in `folder`.
        on_progress: called after every 100 steps and after each epoch.
        replicas: the replicas that share each batch. None trains in this process alone.
        start: the model to train; None builds the network of the settings.
        teacher: the model that the network imitates; its digest belongs to `settings`.

    Raises:
        ModelFileError: the training is quantized, and a layer is not covered.
        DataError: a data set is empty or its labels are invalid, or the replicas cannot divide a
            batch evenly.
        UsageError: the network has BatchNorm, and there are replicas.
        LenetEdgeError: the loss is not finite; `folder` holds an unfinished training and `resume`
            is false; or `resume` is true and `folder` holds no unfinished training with the same
            settings.
    """
    check_dataset(training)
    check_dataset(test)
    settings, recipe = settings.on(training), settings.recipe
    history, arrays = _start(folder, resume, settings, training.name)
    learning, validation = split_validation(training, recipe.validation_images)
    watched = validation or test

    tf.keras.utils.set_random_seed(settings.seed)
    with replicas.scope() if replicas else contextlib.nullcontext():
        start = start or StartingModel(
            networks.build(settings.network, len(training.class_names), training.image_shape)
        )
        model = start.model
        runner = EpochRunner(start, learning, settings, replicas, teacher)
    runner.restore(arrays)
    done = len(history.epochs)
    if replicas:
        replicas.check_same_settings("settings", settings)
        (done,), *arrays = replicas.broadcast_from_first(
            [np.array([done]), *runner.variable_arrays()]
        )
        runner.restore(arrays)
    for epoch in range(done + 1, recipe.epochs + 1):
        started = time.perf_counter()
        losses: list[float] = []
        for new_losses in runner.run_epoch(epoch):
            losses += new_losses
            progress = TrainingProgress(
                epoch,
                recipe.epochs,
                len(losses),
                runner.num_steps,
                runner.learning_rate,
                loss=losses[-1],
                images_per_s=len(losses) * runner.batch_size / (time.perf_counter() - started),
            )
            on_progress(progress)
        with runner.temporarily_averaged():
            runner.measure_ranges()
            watched_accuracy = runner.accuracy(watched)
        history.add(losses, watched_accuracy, runner.learning_rate, time.perf_counter() - started)
        if folder:
            TrainingState(history, runner.variable_arrays()).save(folder)
            history.save(folder)
        on_progress(dataclasses.replace(progress, accuracy=watched_accuracy, watched=watched.name))
    runner.apply_averaged_weights()
    history.ranges = runner.finish_quantization()
    history.test_accuracy = runner.accuracy(test)
    if folder:
        history.save(folder)
    return model, history


@dataclass(frozen=True)
class StartingModel:
    """A Keras model to train, and the rule that turns pixels into its input values."""

    model: Any
    rule: Preprocessing = UNIT


class EpochRunner:
    """Runner of the epochs of one training.

    One step is plain TensorFlow: a tape, a loss, gradients, an optimizer. For speed, up to 100
    steps are one compiled call, and the images stay on the device.
    """

    def __init__(
        self,
        start: StartingModel,
        data: Dataset,
        settings: TrainingSettings,
        replicas: Replicas | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        recipe, model = settings.recipe, start.model
        self._model, self._rule, self._settings = model, start.rule, settings
        self.batch_size = min(recipe.batch_size, len(data))
        self.num_steps = len(data) // self.batch_size
        self._recipe, self._seed = recipe, settings.seed
        self._num_classes, self._image_shape = len(data.class_names), data.image_shape
        self._variables = model.trainable_variables
        # Moving statistics of BatchNorm, and the states of random generators.
        self._untrained = model.non_trainable_variables
        self._optimizer = _optimizer(recipe, self.num_steps)
        self._optimizer.build(self._variables)
        self._statistics = [
            variable for variable in self._untrained if recipe.ema and variable.dtype == "float32"
        ]
        self._averages = [tf.Variable(value) for value in self._statistics]
        self._network: FakeQuantizedNetwork | None = None
        self._rounding: FakeQuantizedNetwork | None = None  # the network, once it is used
        if settings.quantize:
            self._network = FakeQuantizedNetwork(model, settings.quantize)
            first = preprocessing.apply(data.images[:_CALIBRATION_IMAGES], start.rule)
            count = max(1, len(first) // _CALIBRATION_BATCH)
            self._calibration = np.array_split(first, count)
            if settings.start_sha256:  # the network is trained, so its channels have their ranges
                equalize(self._network, self._calibration)
        self._loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
        self._images, self._labels = tf.constant(data.images), tf.constant(data.labels)
        self._replicas, self._teacher = replicas, teacher
        if replicas:
            replicas.check_batch_size(self.batch_size)
            if self._untrained:
                raise UsageError(
                    "--strategy cannot train a network with BatchNorm; leave --strategy out, or use"
                    " --network lenet"
                )
        self._compile(*training_forward(model))
        self._draw = tf.function(augmentation.draw_random_numbers)

    def _compile(self, forward: Callable[[Any], Any], jit_compile: bool) -> None:
        """Compile the steps with a function that computes the logits."""
        self._forward = forward
        if self._replicas:
            self._loss_and_gradients = tf.function(self._gradients_of, jit_compile=jit_compile)
            self._steps = tf.function(self._steps_of)
        else:
            self._loss_and_gradients = self._gradients_of
            self._steps = tf.function(self._steps_of, jit_compile=jit_compile)
        # XLA compiles the warp to fast code, also where it cannot compile the network.
        self._warp = augmentation.warp_images
        if not (jit_compile or self._replicas):
            self._warp = _compiled_warp()

    def run_epoch(self, epoch: int) -> Iterator[list[float]]:
        """Run the steps of an epoch, 100 in one call, and yield the losses of each call.

        Args:
            epoch: the number of the epoch, from 1. It determines the order of the images.

        Raises:
            LenetEdgeError: a loss is not finite.
        """
        if self._network and epoch >= self._settings.first_quantized_epoch:
            if self._rounding is None:
                self._rounding = self._network
                self._compile(*quantized_forward(self._model, self._network))
            self.measure_ranges()
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._images))
        # Leave out the last, incomplete batch. Each epoch leaves out other images.
        batches = order[: self.num_steps * self.batch_size].reshape(-1, self.batch_size)
        for first in range(0, self.num_steps, LOSS_EVERY):
            part = batches[first : first + LOSS_EVERY]
            # Pad to a constant shape, so that TensorFlow compiles the steps only once.
            padding = ((0, LOSS_EVERY - len(part)), (0, 0))
            losses = self._steps(
                self._images,
                self._labels,
                tf.constant(np.pad(part, padding)),
                tf.constant(len(part)),
                self._random_numbers(epoch, first),
            )
            yield _finite(losses.numpy()[: len(part)].tolist(), epoch, first)

    def _gradients_of(self, images: Any, one_hot_labels: Any) -> tuple[Any, Any]:
        soft_labels = self._teacher.soft_labels(images) if self._teacher else None
        with tf.GradientTape() as tape:
            logits = self._forward(images)
            loss = self._loss(one_hot_labels, logits)
            if self._teacher:
                loss = self._teacher.mix(loss, soft_labels, logits, self._loss)
        return loss, tape.gradient(loss, self._variables)

    def _step(self, images: Any, one_hot_labels: Any) -> Any:
        """Run one training step and return its loss."""
        loss, gradients = self._loss_and_gradients(images, one_hot_labels)
        self._optimizer.apply_gradients(zip(gradients, self._variables, strict=True))
        self._average_statistics()
        return loss

    def _average_statistics(self) -> None:
        """Average the moving statistics as the optimizer averages the weights."""
        is_first = tf.equal(self._optimizer.iterations, 1)
        for average, value in zip(self._averages, self._statistics, strict=True):
            momentum = tf.where(is_first, 0.0, self._optimizer.ema_momentum)
            average.assign(momentum * average + (1 - momentum) * value)

    def _steps_of(self, images: Any, labels: Any, batches: Any, count: Any, numbers: Any) -> Any:
        losses = tf.zeros(len(batches))
        for i in tf.range(count):
            indices, random = batches[i], [array[i] for array in numbers]
            if self._replicas:
                loss = self._replicas.run(self._replica_step, images, labels, indices, random)
            else:
                loss = self._step(*self._batch(images, labels, indices, random))
            losses = tf.tensor_scatter_nd_update(losses, [[i]], [loss])
        return losses

    def _replica_step(self, images: Any, labels: Any, indices: Any, random: Any) -> Any:
        """Run a step on one replica's part of the batch; return the loss of the whole batch.

        Under a strategy, Keras divides the loss by the number of replicas and its optimizer sums
        their gradients. The optimizer therefore applies the mean gradient.
        """
        replicas = self._replicas
        assert replicas
        part = tf.nest.map_structure(replicas.local_slice, (indices, random))
        return replicas.sum_over_replicas(self._step(*self._batch(images, labels, *part)))

    def _batch(self, images: Any, labels: Any, indices: Any, random: Any) -> tuple[Any, Any]:
        batch = tf.cast(tf.gather(images, indices), tf.float32) / 255
        if self._recipe.augmentation:
            uniform, normal = random
            batch = self._warp(batch, uniform, normal, self._recipe.augmentation)
        one_hot_labels = tf.one_hot(tf.gather(labels, indices), self._num_classes)
        return to_input_values(batch, self._rule), one_hot_labels

    def _random_numbers(self, epoch: int, first: int) -> Any:
        if not self._recipe.augmentation:
            return ()
        key = tf.constant([self._seed, epoch * self.num_steps + first])
        return self._draw(LOSS_EVERY, self.batch_size, self._image_shape, key)

    @property
    def learning_rate(self) -> float:
        """The current learning rate of the optimizer."""
        return float(self._optimizer.learning_rate)

    def _all_variables(self) -> tuple[Any, ...]:
        return (*self._variables, *self._optimizer.variables, *self._untrained, *self._averages)

    def variable_arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """Return the values of all variables, which determine the next epoch."""
        return tuple(value.numpy() for value in self._all_variables())

    def restore(self, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Assign the arrays that `variable_arrays` returned; do nothing if there are none."""
        if arrays:
            for variable, value in zip(self._all_variables(), arrays, strict=True):
                variable.assign(value)

    @contextlib.contextmanager
    def temporarily_averaged(self) -> Iterator[None]:
        """Give the model its averaged weights inside a context, if the recipe averages weights."""
        variables = (*self._variables, *self._statistics)
        raw = [variable.numpy() for variable in variables]
        self.apply_averaged_weights()
        yield
        for variable, value in zip(variables, raw, strict=True):
            variable.assign(value)

    def apply_averaged_weights(self) -> None:
        """Give the model its averaged weights and statistics, if the recipe averages weights."""
        if self._recipe.ema:
            self._optimizer.finalize_variable_values(self._variables)
        for variable, average in zip(self._statistics, self._averages, strict=True):
            variable.assign(average)

    def measure_ranges(self) -> None:
        """Measure the ranges of the present weights, once the training rounds."""
        if self._rounding:
            self._rounding.calibrate(self._calibration)

    def accuracy(self, data: Dataset) -> float:
        """Return the accuracy of the model, with its rounding once the training has it."""
        return accuracy(self._rounding or self._model, data, self._rule)

    def finish_quantization(self) -> TrainedRanges | None:
        """Round the weights of the model and return its ranges; None for a float training."""
        if self._network is None:
            return None
        network = self._rounding = self._network
        # A process that resumes after the last epoch has not measured the scales of 4-bit weights.
        self.measure_ranges()
        network.round_model()
        self.measure_ranges()
        return network.trained_ranges()


@functools.cache
def _compiled_warp() -> Any:
    """Return the warp that XLA compiles: once for all trainings of a process."""
    return tf.function(augmentation.warp_images, jit_compile=True)


def quantized_forward(
    model: Any, network: FakeQuantizedNetwork
) -> tuple[Callable[[Any], Any], bool]:
    """Return the function that computes the logits with rounding, and if XLA compiles it."""
    if fused_forward.fits(model):
        pool = fused_forward.convolve_and_pool
        return functools.partial(network.forward, convolve_and_pool=pool), True
    return network.forward, False


def training_forward(model: Any) -> tuple[Callable[[Any], Any], bool]:
    """Return the function that computes the logits of a training step, and if XLA compiles it.

    XLA on a CPU compiles the fused forward pass of LeNet to fast code. Its own convolutions and
    the gradient of its max-pooling are slower than TensorFlow's. Ten steps of DS-CNN took 2.5 CPU
    seconds without XLA, and 4.0 with it and all convolutions written as matrix products.
    """
    if fused_forward.fits(model):
        return fused_forward.fused_forward(model), True
    return functools.partial(model, training=True), False


def _optimizer(recipe: Recipe, steps_per_epoch: int) -> Any:
    total = recipe.epochs * steps_per_epoch
    rate: Any = recipe.learning_rate
    if recipe.warmup_epochs:
        warmup = recipe.warmup_epochs * steps_per_epoch
        rate = tf.keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, total - warmup),
            warmup_target=recipe.learning_rate,
            warmup_steps=warmup,
        )
    optimizer = tf.keras.optimizers.AdamW(
        rate,
        weight_decay=recipe.weight_decay,
        use_ema=bool(recipe.ema),
        # In a short training, a larger momentum would keep the initial weights in the average.
        ema_momentum=max(0.0, min(recipe.ema, 1 - 10 / total)),
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _start(
    folder: Path | None, resume: bool, settings: TrainingSettings, dataset: str
) -> tuple[History, Sequence[npt.NDArray[Any]]]:
    """Return a new history without variables, or the saved history and variables in `folder`."""
    if folder is None or not (resume or (folder / STATE_FILE).exists()):
        return History(settings, dataset), ()
    state = TrainingState.load(folder)
    unfinished = (
        f"a training that stopped after epoch {state.epoch} of {state.settings.recipe.epochs}"
    )
    if not resume:
        raise LenetEdgeError(
            f"{folder} holds {unfinished}; continue it with --resume, or delete"
            f" {folder / STATE_FILE}"
        )
    for name, old, new in state.settings.differences(settings):
        raise LenetEdgeError(
            f"{folder} holds {unfinished} with {name} {old}, not {new}; resume it with the same"
            " settings"
        )
    return state.history, state.arrays


def split_validation(data: Dataset, count: int) -> tuple[Dataset, Dataset | None]:
    """Split a data set into images to train on and images held out for validation.

    The choice is random and always the same.

    Args:
        data: the data set to split.
        count: the number of images to hold out, limited to a tenth of `data`.

    Returns:
        The two parts; the second is None if no image is held out.
    """
    count = min(count, len(data) // 10)
    if count == 0:
        return data, None
    order = np.random.default_rng(0).permutation(len(data))
    return data.subset(order[count:]), data.subset(order[:count], f"{data.name}, held out")


def _finite(losses: list[float], epoch: int, first: int) -> list[float]:
    for number, loss in enumerate(losses, start=first + 1):
        if not np.isfinite(loss):
            raise LenetEdgeError(
                f"the loss became {loss} in epoch {epoch}, step {number}; try a smaller"
                " --learning-rate"
            )
    return losses


def predict_logits(
    model: Any, data: Dataset, batch_size: int = 1000, rule: Preprocessing = UNIT
) -> npt.NDArray[np.float32]:
    """Run the Keras model on every image, prepared by a rule.

    Returns:
        The logits, float32 of shape (N, classes).
    """
    images = preprocessing.apply(data.images, rule)
    starts = range(0, len(images), batch_size)
    return np.concatenate([model(images[i : i + batch_size], training=False) for i in starts])


def accuracy(model: Any, data: Dataset, rule: Preprocessing = UNIT) -> float:
    """Return the fraction of `data` that the model classifies correctly."""
    logits = predict_logits(model, data, rule=rule)
    return float(np.mean(logits.argmax(axis=1) == data.labels))


def save_checkpoint(
    model: Any,
    path: Path,
    class_names: tuple[str, ...],
    rule: Preprocessing = UNIT,
    ranges: TrainedRanges | None = None,
) -> Artifact:
    """Write the model as a checkpoint with its manifest, and return the artifact.

    Args:
        model: the trained Keras model.
        path: the .keras file to write.
        class_names: the names of the classes, in the order of the logits.
        rule: the preprocessing of the model's images.
        ranges: the ranges of a quantization-aware training, which the file then has inside.

    Raises:
        LenetEdgeError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        model.save(temporary)
        if ranges:
            add_ranges(temporary, ranges)
        artifact = describe_file(
            temporary,
            precision="float32",
            batch_size=None,
            inputs=(TensorSpec("image", tuple(model.inputs[0].shape), "float32"),),
            outputs=(TensorSpec("logits", tuple(model.outputs[0].shape), "float32"),),
            parent_sha256=None,
            converter=f"keras {tf.keras.__version__}",
            calibration=None,
            labels=class_names,
            preprocessing=rule,
            settings=(f"quantize={ranges.precision}",) if ranges else (),
        )
        artifact = dataclasses.replace(artifact, path=path)
        announce(artifact)
    write_manifest(artifact)
    return artifact
