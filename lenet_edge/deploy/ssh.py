"""A board reached by the user's own OpenSSH: their configuration, keys, agents and jump hosts."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from lenet_edge.errors import BoardError

_AGENT = Path(__file__).parent / "on_board.py"
# A board that was unplugged is noticed in 15 seconds.
_OPTIONS = (
    "Compression=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
)
_OURS = b"lenet-edge "  # what each line of the far end starts with
_FAILED = 255  # ssh's own exit status; any other is the far end's
_CAUSES = (
    (r"Could not resolve hostname", "no such host; check its name, or use its address"),
    (r"Connection refused", "it refuses the port; is its SSH server on (raspi-config), is the"
     " port right?"),
    (r"timed out|No route to host|Network is unreachable|Host is down",
     "it does not answer; is it on, and in this network?"),
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED",
     "it is not the machine that it was; if it was set up anew: ssh-keygen -R HOST"),
    (r"Host key verification failed|No .* host key is known",
     "its host key is not known here; connect once with ssh and compare the fingerprint"),
    (r"Permission denied|Too many authentication failures",
     "it does not accept your key or password; check the user's name, or give it your key:"
     " ssh-copy-id"),
    (r"Bad configuration option|Bad port|extra arguments", "ssh does not accept an option"),
    (r"invalid characters|hostname contains", "that is not a host name"),
)  # fmt: skip


class Board:
    """A conversation with the program `on_board.py`, which this sends to the board's Python.

    One connection serves for everything, so that a password is asked for once. When it is cut,
    what runs at the far end is ended there.
    """

    def __init__(self, host: str, options: Sequence[str] = (), python: str = "python3") -> None:
        """Connect.

        Args:
            host: what ssh takes, such as "pi@raspberrypi.local" or a name of its configuration.
            options: as ``ssh -o`` takes them, such as "Port=2222".
            python: the interpreter on the board.

        Raises:
            BoardError: there is no such host, it lets nobody in, or it has no such Python.
        """
        self.host = host
        source = _AGENT.read_bytes()
        start = f"import sys; exec(sys.stdin.buffer.read({len(source)}).decode())"
        # A file and not a pipe: nobody has to empty it while the conversation goes on.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        command = f"exec {shlex.quote(python)} -c {shlex.quote(start)}"
        self._process = _spawn(host, options, command, self._said)
        with contextlib.suppress(BrokenPipeError):
            self._to.write(source)
            self._to.flush()
        self.ask("hello")

    @property
    def _to(self) -> IO[bytes]:
        assert self._process.stdin
        return self._process.stdin

    def ask(
        self,
        question: str,
        content: bytes = b"",
        report: Callable[[str], None] = lambda line: None,
        **arguments: Any,
    ) -> Any:
        """Call a function of `on_board.py` and return what it returned.

        Args:
            question: the function's name.
            content: bytes that it reads, where it takes any.
            report: called with each line of progress.
            arguments: what JSON can carry.

        Raises:
            BoardError: the connection was lost, or the board could not do it.
        """
        request = {"do": question, "size": len(content), "with": arguments}
        with contextlib.suppress(BrokenPipeError):  # it may have said why before it left
            self._to.write(json.dumps(request).encode() + b"\n" + content)
            self._to.flush()
        assert self._process.stdout
        for line in self._process.stdout:
            if not line.startswith(_OURS):  # what a login script printed
                continue
            answer = json.loads(line[len(_OURS) :])
            if "progress" in answer:
                report(answer["progress"])
            elif "error" in answer:
                raise BoardError(f"{self.host}: {answer['error']}")
            else:
                return answer["result"]
        raise BoardError(f"{self.host}: {_why(*self._end())}")

    def _end(self) -> tuple[int, str]:
        with contextlib.suppress(BrokenPipeError):
            self._to.close()
        status = self._process.wait()
        self._said.seek(0)
        return status, self._said.read().decode(errors="replace")

    def close(self) -> None:
        """End the conversation and the connection."""
        self._end()
        self._said.close()


def _spawn(
    host: str, options: Sequence[str], command: str, said: IO[bytes]
) -> subprocess.Popen[bytes]:
    if not host or host.startswith("-"):  # it would be an option
        raise BoardError(f"{host!r} is not a host; it is named as for ssh: pi@raspberrypi.local")
    given = [part for option in (*options, *_OPTIONS) for part in ("-o", option)]
    try:
        return subprocess.Popen(
            ["ssh", "-T", *given, "--", host, command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
        )  # fmt: skip
    except FileNotFoundError:
        raise BoardError(
            "ssh is not installed; install it with: apt install openssh-client"
        ) from None


def _why(status: int, said: str) -> str:
    """Return what went wrong and what to do, from how ssh ended and what it printed."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    for pattern, meaning in _CAUSES:
        if status == _FAILED and re.search(pattern, said):
            return meaning
    last = lines[-1] if lines else "it said nothing"
    if status in (126, 127):
        return f"it has no such Python ({last}); install it, or name another with --python"
    if status == _FAILED or status < 0:  # ssh's own end, or a signal that ended it
        return f"the connection was lost ({last}); the same command goes on from there"
    return f"its Python ended with exit status {status} ({last})"
