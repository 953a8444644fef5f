"""The command ``lenet-edge serve``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from lenet_edge.cli._help import TARGETS, Command, Section, option
from lenet_edge.cli._options import DEFAULT_DIR, files_argument
from lenet_edge.cli._terminal import say

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
def command(files: tuple[Path, ...], target: str | None, host: str, port: int) -> None:
    """Serve a web page that classifies the digits you draw.

    FILES are exported models; the default is every file in ./exported. The page shows the
    prediction of each file for a drawing or a photo. The browser itself runs .wasm files. Programs
    send POST /predict with a PNG or JPEG file as the body, or the JSON {"pixels": [[...], ...]}
    with 28 rows of 28 numbers. Ctrl-C or SIGTERM stops the server.

    \b
    Example: lenet-edge serve --port 8080
    """
    from lenet_edge.errors import MissingPackageError

    for package, name in (("tornado", "tornado"), ("pillow", "PIL")):
        if find_spec(name) is None:
            raise MissingPackageError(package, "serve")
    import asyncio
    from contextlib import closing

    from lenet_edge.formats import BY_NAME
    from lenet_edge.selection import load_artifacts
    from lenet_edge.serve import server
    from lenet_edge.serve.access_control import AccessControl
    from lenet_edge.serve.models import Models

    artifacts = [
        artifact
        for artifact in load_artifacts(files, DEFAULT_DIR, say)
        if files or BY_NAME[artifact.format].role != "checkpoint"
    ]
    access = AccessControl(host)
    sockets = server.bind(host, port)

    def ready() -> None:
        count = len(models.served) + len(models.in_browser)
        for address in server.addresses(host, sockets, access):
            click.echo(f"Serving {count} models at {address}")
        say("Ctrl-C ends it.")

    with closing(Models(artifacts, target)) as models:
        for one in models.skipped:
            say(f"Left out {one.artifact}: {one.reason}")
        asyncio.run(server.run(models, access, sockets, ready))
