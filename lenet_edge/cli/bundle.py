"""The command ``lenet-edge bundle``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import OUTPUT, Command, Section, check_choice, option
from lenet_edge.cli._options import (
    DEFAULT_DIR,
    check_deployables,
    files_argument,
    input_options,
    json_option,
)
from lenet_edge.cli._outputs import OutputFile
from lenet_edge.cli._terminal import say, write_json

if TYPE_CHECKING:
    from lenet_edge.artifacts.stated_input import StatedInput

_CONTENT = "What to pack"


def _check_system(ctx: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    if name:
        from lenet_edge.deploy.wheels import SYSTEMS

        check_choice(name, list(SYSTEMS))
    return name


@click.command("bundle", cls=Command, section=Section.BOARDS, position=1)
@files_argument
@option(
    _CONTENT,
    "--num-images",
    default="4000",
    show_default=True,
    metavar="N|all",
    help="Number of test images to add, evenly spread. If there are fewer, all are added.",
)
@option(
    _CONTENT,
    "--wheels",
    callback=_check_system,
    metavar="SYSTEM",
    help="Add the wheels of a runtime, for a board without a network. SYSTEM is bookworm or trixie"
    " with -arm64 (Raspberry Pi OS, 64 bit), -armhf (32 bit) or -amd64, such as bookworm-arm64.",
)
@option(
    _CONTENT,
    "--runtime",
    "runtimes",
    multiple=True,
    metavar="RUNTIME",
    callback=check_deployables,
    help="With --wheels: the runtime to add (such as litert, onnx or native). Repeatable."
    " Default: the best that has a wheel.",
)
@option(
    OUTPUT,
    "--output",
    type=OutputFile(".xz", regular=True),
    default=Path("lenet-edge.tar.xz"),
    show_default=True,
    help="Archive to write.",
)
@input_options
@json_option
def command(
    files: tuple[Path, ...],
    output: Path,
    num_images: str,
    wheels: str | None,
    runtimes: tuple[str, ...],
    json_file: Path | None,
    stated: StatedInput,
) -> None:
    """Pack everything that a board needs into one small archive.

    FILES are exported models; the default is every .tflite, .onnx and native .c file in ./exported.
    The archive also holds their manifests, test images with the predictions of the float model,
    and the part of lenet-edge that runs on a board. On the board, unpack it and call
    ./run.sh verify, which needs Python 3.10 and one runtime. Packing the same files again makes
    the same archive, byte for byte.

    \b
    Example: lenet-edge bundle exported/lenet_int8.tflite --wheels bookworm-arm64
    """
    from lenet_edge.flows.bundle import save_bundle
    from lenet_edge.support.files import sha256_of

    if num_images != "all" and not num_images.isdecimal():
        raise click.BadParameter('must be a number or "all"', param_hint="--num-images")
    count = None if num_images == "all" else int(num_images)
    saved = save_bundle(files, DEFAULT_DIR, output, TERMINAL, count, wheels, runtimes, stated)
    bundle, size = saved.bundle, output.stat().st_size
    runtime_names = " and ".join(saved.runtimes)
    facts = {
        "path": str(output), "id": bundle.id, "sha256": sha256_of(output), "size_bytes": size,
        "files": bundle.hashes,
    }  # fmt: skip
    if str(json_file) != "-":
        runtime = f" and {runtime_names}" if saved.runtimes else ""
        click.echo(f"{output}  {size:,} bytes: {', '.join(bundle.models)}{runtime}")
        say(f"On the board, run: tar xf {output.name} && lenet-edge/run.sh verify")
    if json_file:
        write_json(json_file, facts)
    if files and saved.unreadable:
        from lenet_edge.errors import TargetError

        raise TargetError(
            f"{runtime_names} in the archive cannot read {', '.join(saved.unreadable)}; add the"
            " wheels of another --runtime"
        )
