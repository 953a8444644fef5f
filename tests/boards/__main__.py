"""Run an emulated board as root until Ctrl-C: ``python -m tests.boards bookworm-arm64 pi4``."""

from __future__ import annotations

import argparse
import contextlib
import signal

from tests.boards.emulated_board import start_board
from tests.boards.pi_models import PI_MODELS
from tests.boards.userland import USERLANDS, why_unavailable

parser = argparse.ArgumentParser(prog="python -m tests.boards", description=__doc__)
parser.add_argument("userland", choices=USERLANDS)
parser.add_argument("model", choices=PI_MODELS)
parser.add_argument("--port", type=int, help="port of sshd on 127.0.0.1; default: a free port")
parser.add_argument(
    "--throttled",
    help="output of vcgencmd get_throttled, such as 0x50005; default: vcgencmd is missing",
)
arguments = parser.parse_args()
signal.signal(signal.SIGTERM, signal.default_int_handler)
if reason := why_unavailable():
    parser.error(reason)
userland = USERLANDS[arguments.userland]
if not userland.folder.exists():
    print("Building the userland, once (a minute or more) ...", flush=True)
with start_board(
    userland, arguments.model, throttled=arguments.throttled, port=arguments.port
) as board:
    print(f"ssh -F {board.ssh_config} pi", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
