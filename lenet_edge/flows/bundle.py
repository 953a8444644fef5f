"""Pack exported files for a board into an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.deploy.bundle import Bundle, make_bundle
from lenet_edge.deploy.wheels import SYSTEMS, find_wheels
from lenet_edge.errors import UsageError
from lenet_edge.flows.console import Console, megabytes_bar
from lenet_edge.flows.deployment_plan import is_readable
from lenet_edge.formats import BY_NAME
from lenet_edge.selection import load_artifacts


@dataclass(frozen=True)
class SavedBundle:
    """A bundle in its archive.

    Attributes:
        bundle: the content.
        path: the archive.
        runtimes: the runtimes whose wheels are in it.
        unreadable: names of the files that none of these runtimes reads.
    """

    bundle: Bundle
    path: Path
    runtimes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def save_bundle(
    files: Sequence[Path],
    folder: Path,
    output: Path,
    console: Console,
    num_images: int | None = None,
    wheels: str | None = None,
    runtimes: Sequence[str] = (),
    stated: StatedInput = NOTHING_STATED,
) -> SavedBundle:
    """Pack files, their references and the board's part of lenet-edge.

    Args:
        files: exported files; none means those in `folder` that a board runs.
        folder: the folder of exported files.
        output: the archive.
        console: the display.
        num_images: the number of test images; None means all.
        wheels: a name of `SYSTEMS`, to add the wheels of a runtime for it.
        runtimes: the runtimes to add; none means the best that has a wheel.
        stated: the facts about the inputs that the user states.

    Raises:
        UsageError: there are runtimes without a system.
        LenetEdgeError: a file or a wheel cannot be used.
    """
    if runtimes and not wheels:
        raise UsageError("--runtime needs --wheels, the system to get it for")
    artifacts = [
        artifact
        for artifact in load_artifacts(files, folder, console.note, stated)
        if files or BY_NAME[artifact.format].role not in ("checkpoint", "browser")
    ]
    read = {artifact.format for artifact in artifacts}
    wheel_set = None
    if wheels:
        wheel_set = find_wheels(SYSTEMS[wheels], tuple(runtimes), read, console.note)
    bundle = make_bundle(
        artifacts,
        num_images,
        wheel_set.wheels if wheel_set else (),
        SYSTEMS[wheels].machine if wheels else None,
    )
    with megabytes_bar(console, "Pack", sum(map(len, bundle.files.values()))) as count:
        bundle.save(output, lambda num_bytes: count(num_bytes, output.name))
    if wheel_set is None:
        return SavedBundle(bundle, output)
    unreadable = tuple(file.name for file in artifacts if not is_readable(wheel_set, file))
    return SavedBundle(bundle, output, tuple(wheel_set.runtimes), unreadable)
