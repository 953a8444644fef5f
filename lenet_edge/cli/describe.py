"""The command ``lenet-edge describe``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._help import Command, Section, option
from lenet_edge.cli._options import input_options, json_option
from lenet_edge.cli._terminal import say, write_json
from lenet_edge.support.printable import make_printable

if TYPE_CHECKING:
    from lenet_edge.artifacts.stated_input import StatedInput


@click.command("describe", cls=Command, section=Section.MAKE, position=6)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@option(
    "Reference",
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Record the predictions of each file itself for these images, with which verify, bundle"
    " and deploy then compare it on other machines.",
)
@input_options
@json_option
def command(
    files: tuple[Path, ...], data: Path | None, json_file: Path | None, stated: StatedInput
) -> None:
    """State the input of model files from elsewhere.

    FILES are model files that lenet-edge did not export. The command writes a manifest beside each:
    its tensors, its labels, and the scale of its pixels. All other commands read it. The options
    state what the file itself does not say. Without them, the command prints what the file says or
    implies. With --data, it also writes a reference beside each file.

    \b
    Example: lenet-edge describe theirs.onnx --mean 0.5 --std 0.5
    """
    from lenet_edge.artifacts.stated_input import question
    from lenet_edge.flows.describe import describe_files

    artifacts = describe_files(files, stated, say, data)
    for artifact in artifacts:
        rule = artifact.preprocessing
        source = f"{rule.origin}: {rule.detail}" if rule.detail else rule.origin
        labels = f"; {len(artifact.labels)} labels" if artifact.labels else "; no labels"
        if str(json_file) != "-":
            click.echo(make_printable(f"{artifact.path}: takes {rule} ({source}){labels}"))
        if rule.is_assumed:
            say(question(artifact))
    if json_file:
        write_json(json_file, [artifact.to_json() for artifact in artifacts])
