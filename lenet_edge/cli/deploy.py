"""The command ``lenet-edge deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet_edge.cli._help import MEASURING, OUTPUT, Command, Section, option
from lenet_edge.cli._options import (
    DEFAULT_DIR,
    batch_size_option,
    check_deployables,
    files_argument,
    input_options,
    json_option,
)
from lenet_edge.cli._outputs import OutputFolder
from lenet_edge.cli._terminal import exit_with, output, say, write_json
from lenet_edge.support.printable import make_printable

if TYPE_CHECKING:
    from lenet_edge.artifacts.stated_input import StatedInput
    from lenet_edge.flows.deployment_plan import DeploymentPlan


_ACTION, _BOARD = "What to do", "The board"


@click.command("deploy", cls=Command, section=Section.BOARDS, position=2)
@click.argument("host")
@files_argument
@option(
    _ACTION, "--runtime", "runtimes", multiple=True,
    metavar="RUNTIME", callback=check_deployables,
    help="Install this runtime (such as litert, onnx or native) on the board. Repeatable. Default:"
    " the best that has a wheel for the board.",
)  # fmt: skip
@option(_ACTION, "--again", is_flag=True,
        help="Verify and bench even if nothing has changed.")  # fmt: skip
@option(_ACTION, "--service", is_flag=True,
        help="Let systemd run lenet-edge serve on the board, now and after each boot.")  # fmt: skip
@option(_ACTION, "--dry-run", is_flag=True,
        help="Inspect the board and print what deploy would do.")  # fmt: skip
@option(_ACTION, "--uninstall", is_flag=True,
        help="Remove everything that deploy has installed on the board.")  # fmt: skip
@option(_BOARD, "--python", default="python3", show_default=True,
        help="Python interpreter of the board.")  # fmt: skip
@option(
    _BOARD, "ssh_options", "-o", "--ssh-option", multiple=True, metavar="KEY=VALUE",
    help="Pass an option to ssh -o, such as Port=2222. Repeatable.",
)  # fmt: skip
@batch_size_option
@option(MEASURING, "--max-time", type=click.FloatRange(0, min_open=True), default=5.0,
        show_default=True, metavar="S",
        help="Sample each cell for at most this many seconds.")  # fmt: skip
@option(
    OUTPUT, "--results-dir", type=OutputFolder(),
    default=Path("benchmarks/results"), show_default=True,
    help="Write the board's results to a folder with the board's name in this folder.",
)  # fmt: skip
@input_options
@json_option
def command(
    host: str,
    files: tuple[Path, ...],
    runtimes: tuple[str, ...],
    batch_sizes: tuple[int, ...],
    max_time: float,
    results_dir: Path,
    service: bool,
    again: bool,
    dry_run: bool,
    uninstall: bool,
    python: str,
    ssh_options: tuple[str, ...],
    json_file: Path | None,
    stated: StatedInput,
) -> None:
    """Copy files to a board over ssh, verify them and time them there.

    HOST is an ssh destination such as pi@raspberrypi.local, or a name in your ~/.ssh/config. FILES
    are exported models; the default is every file in ./exported that the board's runtime reads.
    The runtime is installed into its own virtual environment, so the board needs Python 3.10 but
    no network. After an interruption, the same command continues. The exit status is 3 if a file
    does not pass on the board, which then keeps its previous files, and 1 if the board's runtime
    does not read one of FILES.

    \b
    Example: lenet-edge deploy pi@raspberrypi.local exported/lenet_int8.tflite
    """
    from contextlib import closing
    from dataclasses import asdict

    from lenet_edge.cli._console import TERMINAL
    from lenet_edge.deploy.ssh import SshConnection
    from lenet_edge.flows.deploy import deploy
    from lenet_edge.flows.deployment_plan import plan_deployment
    from lenet_edge.formats import BY_NAME
    from lenet_edge.report.terminal.deployment import deployment_view
    from lenet_edge.selection import load_artifacts

    if not uninstall:
        artifacts = [
            artifact
            for artifact in load_artifacts(files, DEFAULT_DIR, say, stated)
            if BY_NAME[artifact.format].role != "checkpoint"
        ]
    with closing(SshConnection(host, ssh_options, python)) as board:
        if uninstall:
            removed = board.call("uninstall", tuple[str, ...])
            _print_or_write(
                f"{host}: removed {', '.join(removed) or 'nothing'}",
                {"removed": removed},
                json_file,
            )
            return
        plan = plan_deployment(board, artifacts, runtimes, service, say)
        facts = {
            "host": host,
            "board": asdict(plan.facts),
            "runtimes": plan.wheels.runtimes,
            **plan.ids,
        }
        for line in _describe(plan):
            say(line)
        reason = f"{' and '.join(plan.wheels.runtimes)} cannot read it; name another --runtime"
        left_out = dict.fromkeys(plan.left_out if files else (), reason)
        if dry_run or (plan.is_in_use and not (again or service)):
            state = "nothing was changed" if dry_run else "up to date; --again measures it again"
            _print_or_write(f"{host}: {state}", facts, json_file)
            exit_with("pass", left_out)
            return
        verdict = "pass"
        if not plan.is_in_use or again:
            result = deploy(board, plan, batch_sizes, max_time, results_dir, TERMINAL)
            view = deployment_view(result.board, result.local, result.differences, result.findings)
            output(view, facts | result.to_json(), json_file)
            say(f"The measurements of the board are in {result.result_file}")
            verdict = result.verdict
            if result.command is None:
                exit_with("fail")
            say(f"On the board: {result.command} predict IMAGE")
        if service:
            say("Starting the service")
            arguments = ["serve", "--host", "0.0.0.0"]
            for line in board.call("start_service", tuple[str, ...], arguments=arguments):
                click.echo(make_printable(line))
        exit_with(verdict, left_out)


def _print_or_write(text: str, facts: dict[str, Any], json_file: Path | None) -> None:
    if str(json_file) != "-":
        click.echo(make_printable(text))
    if json_file:
        write_json(json_file, facts)


def _describe(plan: DeploymentPlan) -> list[str]:
    facts = plan.facts
    celsius = facts.temperature_celsius
    lines = [
        f"{facts.model or facts.machine}, {facts.system}, Python"
        f" {'.'.join(map(str, facts.python))}, {facts.machine},"
        f" {facts.free_bytes / 1e9:,.1f} GB free" + (f", {celsius:.0f} °C" if celsius else ""),
        f"Runtime: {', '.join(plan.wheels.runtimes)}; files: {', '.join(plan.bundle.models)}",
    ]
    if plan.left_out:
        lines.append(f"Left out, as the runtime cannot read them: {', '.join(plan.left_out)}")
    return lines
