"""The command ``lenet-edge train``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from lenet_edge.cli._help import OUTPUT, TRAINING, Command, Section, StringChoice, option
from lenet_edge.cli._options import DEFAULT_DIR, dataset_options, recipe_options
from lenet_edge.cli._terminal import alone_in, say, training_progress


@click.command("train", cls=Command, section=Section.MAKE, position=1)
@recipe_options
@option(TRAINING, "--batch-size", type=click.IntRange(1), metavar="N",
        help="Number of images in a batch. Default: the recipe's.")  # fmt: skip
@option(
    TRAINING,
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    metavar="RATE",
    help="Learning rate, or its peak if the recipe has a schedule. Default: the recipe's.",
)
@option(
    TRAINING,
    "--strategy",
    type=StringChoice(["one", "mirrored", "multi-worker"]),
    help="Share each batch with tf.distribute: one device, all GPUs (mirrored), or all processes"
    " in TF_CONFIG (multi-worker). Default: this process alone.",
)
@option(TRAINING, "--resume", is_flag=True, help="Continue a training that was interrupted.")
@dataset_options
@option(
    OUTPUT,
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_DIR / "lenet.keras",
    show_default=True,
    help="Checkpoint to write.",
)
def command(
    recipe: str,
    epochs: int | None,
    seed: int,
    batch_size: int | None,
    learning_rate: float | None,
    dataset: str,
    data_dir: Path | None,
    strategy: str | None,
    resume: bool,
    output: Path,
) -> None:
    """Train LeNet on MNIST or on your own images.

    train saves its state after each epoch in the folder NAME.training beside the checkpoint,
    together with history.json, a training curve and event files for TensorBoard. A training that
    is continued with --resume ends with the same model as an uninterrupted one.

    \b
    Example: lenet-edge train --recipe best
    Example: lenet-edge train --strategy mirrored
    Example: lenet-edge train --dataset photos/ --output mine/lenet.keras
    """
    if output.suffix != ".keras":
        raise click.BadParameter(f"{output} must end in .keras", param_hint="--output")
    say("Loading TensorFlow ...")
    from lenet_edge.flows import datasets
    from lenet_edge.flows.train import assist, train
    from lenet_edge.train.distribution import MULTI_WORKER, make_replicas
    from lenet_edge.train.recipe import RECIPES
    from lenet_edge.train.saved_state import STATE_FILE, training_folder

    usual = RECIPES[recipe]
    chosen = dataclasses.replace(
        usual,
        epochs=epochs or usual.epochs,
        batch_size=batch_size or usual.batch_size,
        learning_rate=learning_rate or usual.learning_rate,
    )
    if strategy == MULTI_WORKER:
        say("Waiting for all workers of TF_CONFIG; Ctrl-C gives up")
    replicas = make_replicas(strategy) if strategy else None
    training, test = datasets.load(dataset, data_dir)
    if replicas and not replicas.is_chief:
        with training_progress() as report:
            assist(training, test, chosen, seed, report, replicas)
        say("Done; the first worker has the checkpoint")
        return
    click.get_current_context().with_resource(
        alone_in(output.parent)
    )  # not sooner: workers that write nothing may be in the same folder
    done = None
    try:
        with training_progress() as report:
            done = train(output, training, test, chosen, seed, resume, report, replicas)
    except KeyboardInterrupt:
        if not done:  # there was something left to stop
            kept = (training_folder(output) / STATE_FILE).exists()
            raise KeyboardInterrupt(
                "Stopped; go on with the same command and --resume"
                if kept
                else "Stopped before the first epoch was done; nothing was kept"
            ) from None
    artifact, history = done
    click.echo(
        f"{artifact.path}: {history.test_accuracy:.2%} of {len(test):,} test images right"
        f" ({artifact.size_bytes:,} bytes)"
    )
