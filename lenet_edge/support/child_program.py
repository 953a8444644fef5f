"""Programs that this process runs and waits for: compilers, pip, Vela.

They run in a folder of their own, because some read files of the current folder: GNU ld links a
file libgcc_s.so.1 of the current folder. They do not outlive a killed caller.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from lenet_edge.support.python_command import python_program

# A signal at the death of the caller would reach only the compiler's driver, not the compilers
# that the driver has started. The kernel closes the caller's end of the pipe in any case.
_SUPERVISOR = """
import os, signal, subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def end_with_the_caller():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_the_caller, daemon=True).start()
status = child.wait()
os._exit(status if status >= 0 else 128 - status)
"""


def run_program(
    command: Sequence[str], folder: Path, timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program and all its children; kill them at the time limit or when this process ends.

    Args:
        command: the program, which exists, and its arguments.
        folder: the working folder, also for temporary files; see `temporary_folder`.
        timeout_s: the time limit.

    Raises:
        subprocess.TimeoutExpired: the program reached the time limit.
        OSError: Python cannot be started.
    """
    with started_program(command, folder) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise subprocess.TimeoutExpired(command, timeout_s or 0) from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@contextlib.contextmanager
def started_program(
    command: Sequence[str], folder: Path, errors: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start a program; kill it and all its children when the block or this process ends.

    Args:
        command: the program, which exists, and its arguments.
        folder: the working folder, also for temporary files.
        errors: the file for its standard error; None: a pipe.

    Yields:
        The process, whose exit status is that of the program (128 + N after the signal N).

    Raises:
        OSError: Python cannot be started.
    """
    read_end, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            python_program(_SUPERVISOR, *command), cwd=folder, stdin=read_end,
            stdout=subprocess.PIPE, stderr=errors or subprocess.PIPE, text=True, errors="replace",
            env={**os.environ, "TMPDIR": str(folder)}, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
    finally:
        os.close(read_end)
        os.close(write_end)
