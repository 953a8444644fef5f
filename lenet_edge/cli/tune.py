"""The command ``lenet-edge tune``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from lenet_edge.cli._help import OUTPUT, TARGETS, Command, Section, option
from lenet_edge.cli._options import DEFAULT_DIR, json_option
from lenet_edge.cli._terminal import alone_in, measuring_alone, output, say


@click.command("tune", cls=Command, section=Section.MAKE, position=3)
@click.argument(
    "model", type=click.Path(path_type=Path), default=DEFAULT_DIR / "lenet.keras", required=False
)
@option(
    TARGETS,
    "--target",
    "target_name",
    default="litert",
    show_default=True,
    metavar="NAME",
    help="Target or runtime that runs .tflite files.",
)
@option(
    OUTPUT,
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIR,
    show_default=True,
    help="Folder for the fastest file, the Pareto front and its picture.",
)
@json_option
def command(model: Path, target_name: str, output_dir: Path, json_file: Path | None) -> None:
    """Find the fastest TFLite file that mixes float and int8 layers.

    MODEL is a .keras file; the default is exported/lenet.keras. tune measures, on this machine,
    every mix that agrees with the float model on held-out training images. It writes the fastest
    file, the Pareto front (accuracy, latency, bytes) as JSON, and a picture of the front.

    \b
    Example: lenet-edge tune
    """
    from lenet_edge.artifacts.artifact import check_format
    from lenet_edge.errors import MissingPackageError, TargetError
    from lenet_edge.runtimes import find_targets
    from lenet_edge.support.files import atomic_write

    check_format(model)
    for package, extra in (("litert_quantizer", "host"), ("matplotlib", "report")):
        if importlib.util.find_spec(package) is None:  # now, and not when all is measured
            raise MissingPackageError(package, extra)
    target = find_targets(target_name)[0]
    if "tflite" not in target.formats:
        raise TargetError(f"{target.name} runs no .tflite files; see: lenet-edge targets")
    click.get_current_context().with_resource(alone_in(output_dir))
    say("Loading TensorFlow ...")
    import json

    from lenet_edge.flows.tune import tune
    from lenet_edge.report.plots import plot_tuning
    from lenet_edge.report.terminal.tuning import tuning_view

    with measuring_alone():
        found = tune(model, output_dir, target, report=lambda what: say(f"{what} ..."))
    facts = found.to_json()
    base = found.winner.path.with_suffix("")
    with atomic_write(base.with_name(base.name + ".tune.json")) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    picture = base.with_name(base.name + ".tune.png")
    plot_tuning(facts, picture)
    say(f"Written: {found.winner.path}, {base.name}.tune.json and {picture.name} beside it.")
    output(tuning_view(facts), facts, json_file)
