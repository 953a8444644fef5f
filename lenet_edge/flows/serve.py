"""Serve files on a web page until a signal stops the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput, question
from lenet_edge.errors import MissingPackageError
from lenet_edge.flows.console import Console, note_left_out
from lenet_edge.formats import BY_NAME
from lenet_edge.selection import load_artifacts


def serve(
    files: Sequence[Path],
    folder: Path,
    target: str | None,
    host: str,
    port: int,
    console: Console,
    on_ready: Callable[[int, Sequence[str]], None],
    stated: StatedInput = NOTHING_STATED,
) -> None:
    """Open each file in a worker and serve the page; return after SIGINT or SIGTERM.

    Args:
        files: exported files; none means every one in `folder`, without the checkpoint.
        folder: the folder of exported files.
        target: a target, a runtime or a format; None means the best for each file.
        host: the address to listen on.
        port: the port to listen on; 0 selects a free one.
        console: the display.
        on_ready: called with the number of models and the addresses of the page.
        stated: the facts about the inputs that the user states.

    Raises:
        MissingPackageError: a package of the extra "serve" is not installed.
        LenetEdgeError: no file can be served, or the port is taken.
    """
    for package, name in (("tornado", "tornado"), ("pillow", "PIL")):
        if find_spec(name) is None:
            raise MissingPackageError(package, "serve")
    from lenet_edge.serve import server
    from lenet_edge.serve.access_control import AccessControl
    from lenet_edge.serve.models import Models

    artifacts = [
        artifact
        for artifact in load_artifacts(files, folder, console.note, stated)
        if files or BY_NAME[artifact.format].role != "checkpoint"
    ]
    for artifact in artifacts:
        if artifact.preprocessing.is_assumed:
            console.note(question(artifact))
    access = AccessControl(host)
    sockets = server.bind(host, port)
    with closing(Models(artifacts, target)) as models:
        left_out = {skipped.artifact or "": skipped.reason for skipped in models.skipped}
        note_left_out(left_out, console.note)

        def ready() -> None:
            count = len(models.served) + len(models.in_browser)
            on_ready(count, list(server.addresses(host, sockets, access)))

        asyncio.run(server.run(models, access, sockets, ready))
