"""The connection to a board through OpenSSH, with the configuration and keys of the user."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from lenet_edge.deploy.replies import (
    InvalidReplyError,
    ReplyReader,
    clean_text,
    to_type,
    wait_for,
)
from lenet_edge.errors import BoardError
from lenet_edge.support.python_command import python_program

_PROGRAM = Path(__file__).parent / "on_board.py"
# A board that loses power is detected after 15 seconds.
_OPTIONS = (
    "Compression=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
)
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


# Seconds in which a function must return; measurements take longest.
_TIMEOUT_S = 600.0
_TIMEOUTS_S = {"create_environment": 7200.0, "store_file": 7200.0, "run_command": 6 * 3600.0}
_MAX_LINES = 100_000  # of progress in one call
_CLOSE_S = 10.0  # in which the program on the board ends after its connection
_KEPT_STDERR = 10_000  # bytes of the last output of ssh


class SshConnection:
    """An SSH connection to a board, whose Python runs `on_board.py`.

    One connection is used for the whole deployment, so that ssh asks for a password once. When it
    is cut, the board kills the command that it is running. Replies are untrusted; see `replies`.
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
        source, marker = _PROGRAM.read_bytes(), secrets.token_hex(16)
        start = f"exec(sys.stdin.buffer.read({len(source)}).decode())"
        command = f"exec {shlex.join(python_program(start, python=python))}"
        self._process = _start_ssh(host, options, command)
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._requests, self._stderr = self._process.stdin, bytearray()
        # A full pipe that nobody reads would block ssh.
        self._stderr_reader = threading.Thread(
            target=_keep_tail, args=(self._process.stderr, self._stderr), daemon=True
        )
        self._stderr_reader.start()
        os.set_blocking(self._requests.fileno(), False)  # a board that does not read blocks nobody
        self._replies = ReplyReader(self._process.stdout, marker)
        try:
            with contextlib.suppress(BrokenPipeError):
                self._send(source + f"{marker}\n".encode(), time.monotonic() + _TIMEOUT_S)
            self.call("ping", None)
        except BaseException:
            self.close()
            raise

    def call(
        self,
        function: str,
        kind: Any,
        content: bytes = b"",
        report: Callable[[str], None] = lambda line: None,
        on_sent: Callable[[int], None] = lambda count: None,
        **arguments: Any,
    ) -> Any:
        """Call a function of `on_board.py` and return its result.

        Args:
            function: the name of the function.
            kind: the type of the result, as for `replies.to_type`.
            content: the bytes that the function reads, if any.
            report: called with each line of progress.
            on_sent: called with the number of bytes of each piece of the content that is sent.
            arguments: the keyword arguments of the function, as JSON values.

        Raises:
            BoardError: the connection was lost, the function failed, or its reply is invalid.
        """
        request = {"function": function, "size": len(content), "arguments": arguments}
        deadline = time.monotonic() + _TIMEOUTS_S.get(function, _TIMEOUT_S)
        try:
            # If ssh has ended, its output tells the reason.
            with contextlib.suppress(BrokenPipeError):
                self._send(json.dumps(request).encode() + b"\n", deadline)
                self._send(content, deadline, on_sent)
            for _ in range(_MAX_LINES):
                reply = self._replies.read(deadline)
                match reply:
                    case {"progress": str(line)}:
                        report(clean_text(line))
                    case {"error": str(message)}:
                        raise BoardError(f"{self.host}: {clean_text(message)}")
                    case {"content": bytes(received)}:
                        return to_type(received, kind)
                    case {"result": value}:
                        return to_type(value, kind)
                    case _:
                        raise InvalidReplyError(f"it is {clean_text(repr(reply)[:60])}")
            raise InvalidReplyError(f"it has more than {_MAX_LINES:,} lines of progress")
        except EOFError:
            raise BoardError(f"{self.host}: {_explain_exit(*self._disconnect())}") from None
        except (InvalidReplyError, ValueError, RecursionError) as error:
            self._process.kill()  # it may print without end
            raise BoardError(
                f"{self.host}: its reply to {function} is invalid: {clean_text(str(error))}; check"
                " what its login scripts and its Python do"
            ) from None

    def _send(
        self, data: bytes, deadline: float, on_sent: Callable[[int], None] = lambda count: None
    ) -> None:
        rest = memoryview(data)
        while rest:
            wait_for(self._requests.fileno(), select.POLLOUT, deadline)
            count = os.write(self._requests.fileno(), rest)
            rest = rest[count:]
            on_sent(count)

    def _disconnect(self) -> tuple[int, str]:
        """Close the connection and return the exit status and the last output of ssh."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        try:
            status = self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._stderr_reader.join(_CLOSE_S)  # a child of ssh may hold the pipe open
        return status, self._stderr.decode(errors="replace")

    def close(self) -> None:
        """Close the connection."""
        self._disconnect()


def _keep_tail(stream: IO[bytes], tail: bytearray) -> None:
    """Read a stream to its end and keep its last bytes."""
    with stream:
        while chunk := os.read(stream.fileno(), 65_536):
            tail += chunk
            del tail[:-_KEPT_STDERR]


def _start_ssh(host: str, options: Sequence[str], command: str) -> subprocess.Popen[bytes]:
    if not host or host.startswith("-"):  # ssh would read it as an option
        raise BoardError(f"{host!r} is not a host; name it as for ssh: pi@raspberrypi.local")
    all_options = [part for option in (*options, *_OPTIONS) for part in ("-o", option)]
    try:
        return subprocess.Popen(
            ["ssh", "-T", *all_options, "--", host, command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
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
    last_line = clean_text(lines[-1]) if lines else "ssh printed nothing"
    if status in (126, 127):
        return f"it has no such Python ({last_line}); install it, or name another with --python"
    if status == _SSH_FAILED or status < 0:  # ssh failed, or a signal killed it
        return f"the connection was lost ({last_line}); repeat the command to continue"
    return f"its Python ended with exit status {status} ({last_line})"
