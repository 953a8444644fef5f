"""Run an emulated board until Ctrl-C, as root: ``python -m tests.boards bookworm-arm64 pi4``."""

from __future__ import annotations

import argparse
import contextlib
import signal

from tests.boards.board import start
from tests.boards.faces import FACES
from tests.boards.userland import USERLANDS, missing

parser = argparse.ArgumentParser(prog="python -m tests.boards", description=__doc__)
parser.add_argument("userland", choices=USERLANDS)
parser.add_argument("face", choices=FACES)
parser.add_argument("--port", type=int, help="where sshd listens, on 127.0.0.1; a free one")
parser.add_argument(
    "--throttled", help="what vcgencmd says, such as 0x50005; no vcgencmd without it"
)
asked = parser.parse_args()
signal.signal(signal.SIGTERM, signal.default_int_handler)
if reason := missing():
    parser.error(reason)
if not USERLANDS[asked.userland].folder.exists():
    print("Building its userland, once (a minute or more) ...", flush=True)
with start(
    USERLANDS[asked.userland], asked.face, throttled=asked.throttled, port=asked.port
) as board:
    print(f"ssh -F {board.ssh_config} pi", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
