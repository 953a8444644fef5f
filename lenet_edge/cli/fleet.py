"""The command ``lenet-edge fleet``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet_edge.cli._help import FLEET, Group, Section, option
from lenet_edge.cli._options import json_option
from lenet_edge.cli._terminal import GATE_FAILED, output, say

if TYPE_CHECKING:
    from lenet_edge.cli._help import Decorated
    from lenet_edge.report.terminal.table import TerminalTable


def _inventory(command: Decorated) -> Decorated:
    return option(
        FLEET,
        "--inventory",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("fleet.toml"),
        show_default=True,
        help="File that lists the boards: name, ssh address, Python, tags.",
    )(command)


def _port(command: Decorated) -> Decorated:
    return option(
        FLEET,
        "--port",
        type=click.IntRange(1024, 60_000),
        metavar="PORT",
        default=8786,
        show_default=True,
        help="Port of the scheduler on the loopback address. The boards use the next ports.",
    )(command)


@click.group(
    "fleet", cls=Group, section=Section.BOARDS, position=3, epilog="Example: lenet-edge fleet up"
)
def command() -> None:
    """Start, show and stop workers on many boards over ssh.

    Afterwards, run bench and verify with --scheduler tls://127.0.0.1:8786. No process listens on
    the network: all connections go through ssh, with your own keys and configuration. TLS keeps
    out the other users of this machine and of the boards.
    """


@command.command("up")
@click.argument("names", nargs=-1)
@_inventory
@_port
def up(names: tuple[str, ...], inventory: Path, port: int) -> None:
    """Start a scheduler on this machine and a worker on each board.

    NAMES are boards or tags; the default is all boards. Boards that already have a worker keep it.

    \b
    Example: lenet-edge fleet up pi5
    """
    from lenet_edge.fleet import launch
    from lenet_edge.fleet.inventory import read_inventory

    entries = read_inventory(inventory, names)
    logs = inventory.with_suffix(".logs")

    def report(result: launch.StartResult) -> None:
        say(f"{result.entry.name}: {result.reason or 'joined'}")

    def wait(holder: str) -> None:
        say(f"Waiting to start the fleet: {holder}; Ctrl-C gives up")

    results = launch.up(entries, port, logs, report, wait)
    num_joined = sum(result.reason is None for result in results)
    scheduler = launch.scheduler_address(port)
    click.echo(
        f"{num_joined} of {len(results)} boards are at {scheduler}; for all of them:"
        f" lenet-edge bench --scheduler {scheduler}"
    )
    if num_joined < len(results):
        raise SystemExit(GATE_FAILED)


@command.command("status")
@_inventory
@_port
@json_option
def status(inventory: Path, port: int, json_file: Path | None) -> None:
    """List the boards with their tags and states.

    \b
    Example: lenet-edge fleet status
    """
    from lenet_edge.fleet.launch import scheduler_address
    from lenet_edge.fleet.status import board_states

    boards = board_states(inventory, scheduler_address(port))
    output(_view(boards), boards, json_file)
    if any(board["state"] == "missing" for board in boards):
        raise SystemExit(GATE_FAILED)


def _view(boards: Sequence[dict[str, Any]]) -> TerminalTable:
    from lenet_edge.report.terminal.table import TerminalTable, figures, texts

    table = TerminalTable([*texts("board", "ssh", "tags", "state"), *figures("last seen")])
    for board in boards:
        last_seen_s, state = board["last_seen_s"], board["state"]
        table.row(
            board["name"],
            board["ssh"] or "",
            ", ".join(board["tags"]),
            state,
            "" if last_seen_s is None else f"{last_seen_s:.0f} s ago",
            style=None if state in ("idle", "busy") else "red",
        )
    return table


@command.command("down")
@_port
def down(port: int) -> None:
    """Stop every worker and the scheduler.

    \b
    Example: lenet-edge fleet down
    """
    from lenet_edge.fleet import launch

    click.echo(f"Stopped {launch.down(port)} boards and their scheduler.")
