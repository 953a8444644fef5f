"""The connection to a board through OpenSSH, with the configuration and keys of the user."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from lenet_edge.errors import BoardError
from lenet_edge.support.python_command import python_program
from lenet_edge.support.temporary import memory_file

_PROGRAM = Path(__file__).parent / "on_board.py"
# A board that loses power is detected after 15 seconds.
_OPTIONS = (
    "Compression=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
)
_PREFIX = b"lenet-edge "  # the start of each line that on_board.py prints
_SSH_FAILED = 255  # the exit status of ssh itself; any other is that of the remote program
# Patterns in the messages of ssh, with the explanations that are shown instead.
_CAUSES = (
    (r"Could not resolve hostname", "no such host; check its name, or use its address"),
    (r"Connection refused", "it refuses the port; check the port, and that its SSH server is"
     " enabled (raspi-config)"),
    (r"timed out|No route to host|Network is unreachable|Host is down",
     "it does not respond; check that it is switched on and in this network"),
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED",
     "its host key has changed; if the board was set up anew: ssh-keygen -R HOST"),
    (r"Host key verification failed|No .* host key is known",
     "its host key is unknown; connect once with ssh and compare the fingerprint"),
    (r"Permission denied|Too many authentication failures",
     "it does not accept your key or password; check the user name, or copy your key to it with:"
     " ssh-copy-id"),
    (r"Bad configuration option|Bad port|extra arguments", "ssh does not accept an option"),
    (r"invalid characters|hostname contains", "that is not a host name"),
)  # fmt: skip


class SshConnection:
    """An SSH connection to a board, whose Python runs `on_board.py`.

    One connection is used for the whole deployment, so that ssh asks for a password once. When it
    is cut, the board kills the command that it is running.
    """

    def __init__(self, host: str, options: Sequence[str] = (), python: str = "python3") -> None:
        """Connect to the board and start `on_board.py`.

        Args:
            host: the destination for ssh, such as "pi@raspberrypi.local" or an alias from
                ~/.ssh/config.
            options: options for ``ssh -o``, such as "Port=2222".
            python: the interpreter on the board.

        Raises:
            BoardError: the host does not exist, it refuses the login, or it has no such Python.
        """
        self.host = host
        source = _PROGRAM.read_bytes()
        start = f"exec(sys.stdin.buffer.read({len(source)}).decode())"
        command = f"exec {shlex.join(python_program(start, python=python))}"
        # Not a pipe: a full pipe that nobody reads would block ssh.
        self._stderr = memory_file()
        self._process = _start_ssh(host, options, command, self._stderr)
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(source)
            self._requests.flush()
        self.call("ping")

    @property
    def _requests(self) -> IO[bytes]:
        assert self._process.stdin
        return self._process.stdin

    def call(
        self,
        function: str,
        content: bytes = b"",
        report: Callable[[str], None] = lambda line: None,
        **arguments: Any,
    ) -> Any:
        """Call a function of `on_board.py` and return its result.

        Args:
            function: the name of the function.
            content: the bytes that the function reads, if any.
            report: called with each line of progress.
            arguments: the keyword arguments of the function, as JSON values.

        Raises:
            BoardError: the connection was lost, or the function failed.
        """
        request = {"function": function, "size": len(content), "arguments": arguments}
        # If ssh has ended, the loop below reads the reason from its output.
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(json.dumps(request).encode() + b"\n" + content)
            self._requests.flush()
        assert self._process.stdout
        for line in self._process.stdout:
            if not line.startswith(_PREFIX):  # output of a login script
                continue
            reply = json.loads(line[len(_PREFIX) :])
            if "progress" in reply:
                report(reply["progress"])
            elif "error" in reply:
                raise BoardError(f"{self.host}: {reply['error']}")
            else:
                return reply["result"]
        raise BoardError(f"{self.host}: {_explain_exit(*self._disconnect())}")

    def _disconnect(self) -> tuple[int, str]:
        """Close the connection and return the exit status and the standard error of ssh."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        status = self._process.wait()
        self._stderr.seek(0)
        return status, self._stderr.read().decode(errors="replace")

    def close(self) -> None:
        """Close the connection."""
        self._disconnect()
        self._stderr.close()


def _start_ssh(
    host: str, options: Sequence[str], command: str, stderr: IO[bytes]
) -> subprocess.Popen[bytes]:
    if not host or host.startswith("-"):  # ssh would read it as an option
        raise BoardError(f"{host!r} is not a host; name it as for ssh: pi@raspberrypi.local")
    all_options = [part for option in (*options, *_OPTIONS) for part in ("-o", option)]
    try:
        return subprocess.Popen(
            ["ssh", "-T", *all_options, "--", host, command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
    except FileNotFoundError:
        raise BoardError(
            "ssh is not installed; install it with: apt install openssh-client"
        ) from None


def _explain_exit(status: int, stderr: str) -> str:
    """Return the cause and the fix for the exit status and the standard error of ssh."""
    lines = [line.strip() for line in stderr.strip().splitlines() if line.strip()]
    for pattern, explanation in _CAUSES:
        if status == _SSH_FAILED and re.search(pattern, stderr):
            return explanation
    last_line = lines[-1] if lines else "ssh printed nothing"
    if status in (126, 127):
        return f"it has no such Python ({last_line}); install it, or name another with --python"
    if status == _SSH_FAILED or status < 0:  # ssh failed, or a signal killed it
        return f"the connection was lost ({last_line}); repeat the command to continue"
    return f"its Python ended with exit status {status} ({last_line})"
