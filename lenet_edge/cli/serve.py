"""The command ``lenet-edge serve``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import TARGETS, Command, Section, option
from lenet_edge.cli._options import DEFAULT_DIR, files_argument, input_options
from lenet_edge.cli._terminal import say

if TYPE_CHECKING:
    from lenet_edge.artifacts.stated_input import StatedInput

_NETWORK = "Network"


@click.command("serve", cls=Command, section=Section.USE, position=2)
@files_argument
@option(
    TARGETS,
    "--target",
    metavar="NAME",
    help="Target, runtime or format. Default: the best that is installed, for each file.",
)
@option(
    _NETWORK,
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. 0.0.0.0 admits other machines, which need the printed token.",
)
@option(
    _NETWORK,
    "--port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    default=8000,
    show_default=True,
    help="Port to listen on. 0 selects a free port.",
)
@input_options
def command(
    files: tuple[Path, ...], target: str | None, host: str, port: int, stated: StatedInput
) -> None:
    """Serve a web page that classifies what you draw, and photos.

    FILES are exported models; the default is every file in ./exported. The page shows the
    prediction of each file for a drawing or a photo. The browser itself runs .wasm files. Programs
    send POST /predict with a PNG or JPEG file as the body, or the JSON {"pixels": [[...], ...]}
    with 28 rows of 28 numbers. Ctrl-C or SIGTERM stops the server.

    \b
    Example: lenet-edge serve --port 8080
    """
    from lenet_edge.flows.serve import serve

    def on_ready(count: int, addresses: Sequence[str]) -> None:
        for address in addresses:
            click.echo(f"Serving {count} models at {address}")
        say("Press Ctrl-C to stop the server.")

    serve(files, DEFAULT_DIR, target, host, port, TERMINAL, on_ready, stated)
