"""The command ``lenet-edge card``."""

from __future__ import annotations

from pathlib import Path

import click

from lenet_edge.cli._help import Command, Section, option
from lenet_edge.cli._options import json_option
from lenet_edge.cli._terminal import exit_with, output


@click.command("card", cls=Command, section=Section.MEASURE, position=8)
@option(
    "What to do", "card_file", "--check", required=True, metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False), help="Check this model card.",
)  # fmt: skip
@json_option
def command(card_file: Path, json_file: Path | None) -> None:
    """Check a model card that report --card has written, or any other.

    The metadata is read with huggingface_hub, as the hub does; nothing is sent. The exit status is
    3 if it is not valid, or if a model file of the card is missing or has changed.

    \b
    Example: lenet-edge card --check exported/README.md
    """
    from rich.text import Text

    from lenet_edge.flows.card import check_card

    facts, faults = check_card(card_file)
    shown = {name: value for name, value in facts.items() if name != "files" and value is not None}
    lines = [f"{card_file}: {'; '.join(faults) or 'valid'}."]
    lines += [f"{name}: {value}" for name, value in shown.items()]
    if facts and not facts["license"]:
        lines.append("The card has no license; add it with: lenet-edge report --card --license ID")
    view = Text("\n".join(lines), style="red" if faults else "")
    output(view, {"file": str(card_file), "faults": faults, **facts}, json_file)
    exit_with("fail" if faults else "pass")
