"""lenet-edge serve"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from lenet_edge.cli._options import DEFAULT_DIR, files_argument
from lenet_edge.cli._terminal import say


@click.command("serve")
@files_argument
@click.option(
    "--target",
    metavar="NAME",
    help="A target, a runtime or a format; for each file the best installed if left out.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; 0.0.0.0 lets other machines in, who need the token that is printed.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8000,
    show_default=True,
    help="0 takes any that is free.",
)
def command(files: tuple[Path, ...], target: str | None, host: str, port: int) -> None:
    """Draw a digit in the browser and see what each file says to it.

    FILES are exported models; every one in ./exported if left out. A .wasm file runs in the
    browser itself. The page takes photos too. POST /predict answers programs: a PNG or JPEG as the
    body, or the JSON {"pixels": [[...], ...]} with 28 rows of 28 numbers. Ctrl-C or SIGTERM ends
    it.

    \b
    Example: lenet-edge serve --port 8080
    """
    from lenet_edge.errors import MissingPackageError

    for package, name in (("tornado", "tornado"), ("pillow", "PIL")):
        if find_spec(name) is None:
            raise MissingPackageError(package, "serve")
    import asyncio
    from contextlib import closing

    from lenet_edge.selection import load_files
    from lenet_edge.serve import server
    from lenet_edge.serve.access import Access
    from lenet_edge.serve.models import Models

    found = load_files(files, DEFAULT_DIR, say)
    artifacts = [one for one in found if files or one.format != "keras"]
    access = Access(host)
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
