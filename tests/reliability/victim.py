"""Process that runs commands of lenet-edge, and can kill itself at a chosen moment.

    python -m tests.reliability.victim MODULE...

It imports the modules first, because the import of TensorFlow takes seconds without any change to
a file. A line of JSON on standard input is a job. The reply is a line of JSON on the original
standard output. The output of commands goes to standard error.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import threading
import time
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Touches:
    """Counter of changes to files in the working folder, which can kill the process."""

    def __init__(self) -> None:
        self.folder = ""
        self.count = self.last = 0
        self.delay_s = 0.0
        sys.addaudithook(self._hook)

    def watch(self, folder: str, last: int, delay_s: float) -> None:
        """Start counting. Kill the process `delay_s` after change number `last`, unless it is 0."""
        self.folder, self.count, self.last, self.delay_s = folder, 0, last, delay_s

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder or not self._touches(event, arguments):
            return
        self.count += 1
        if self.count == self.last:
            if self.delay_s:
                threading.Thread(target=self._die, daemon=True).start()
            else:
                self._die()

    def _touches(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            path, _, flags = arguments
            if not flags & _WRITES:
                return False
        elif event in ("os.rename", "os.remove", "os.truncate"):
            path = arguments[0]
        else:
            return False
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        name = os.fsdecode(path)
        return not os.path.isabs(name) or name.startswith(self.folder)

    def _die(self) -> None:
        time.sleep(self.delay_s)
        os.kill(os.getpid(), signal.SIGKILL)


def main(modules: list[str]) -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for module in modules:
        importlib.import_module(module)
    from lenet_edge.cli import main as lenet_edge

    touches = Touches()
    print(json.dumps({"ready": os.getpid()}), file=replies, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        os.chdir(job["folder"])
        touches.watch(job["folder"], job.get("last", 0), job.get("delay_s", 0.0))
        started = time.perf_counter()
        try:
            lenet_edge(job["arguments"], prog_name="lenet-edge")
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        reply = {
            "status": status, "touches": touches.count, "seconds": time.perf_counter() - started
        }  # fmt: skip
        touches.watch("", 0, 0.0)
        os.chdir("/")
        gc.collect()  # close files that are still open in the folder
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
