"""A hostile board: a program in place of ssh that replies with given bytes.

It reads what `SshConnection` sends, replies to `ping` as the real program does, and to the next
request with the bytes of the file REPLY. In these, @MARKER@ becomes the marker of the session.
GREETING is printed first. Without REPLY it runs the real program instead.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

FACTS: dict[str, Any] = {
    "model": "Raspberry Pi 4", "system": "Debian 12", "codename": "bookworm",
    "machine": "aarch64", "python": [3, 11, 2], "glibc": "2.36", "home": "/home/pi",
    "writable": True, "free_bytes": 10**10, "time_s": 1.8e9, "temperature_celsius": 40.0,
    "throttled": None, "systemd": True, "has_numpy": True, "in_use": None, "environments": [],
}  # fmt: skip


def reply(message: object) -> bytes:
    return b"@MARKER@ " + json.dumps(message).encode() + b"\n"


def install(folder: Path, monkeypatch: Any) -> Path:
    """Put the program in place of ssh; return the path of the file REPLY."""
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {sys.executable} -IS {__file__} "$@"\n')
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("REPLY", str(folder / "reply"))
    return folder / "reply"


def main() -> None:
    out, requests = sys.stdout.buffer, sys.stdin.buffer
    out.write(os.environ.get("GREETING", "").encode())
    out.flush()
    if "REPLY" not in os.environ:
        os.execvp("sh", ["sh", "-c", sys.argv[-1]])
    size = int(sys.argv[-1].split("buffer.read(")[1].split(")")[0])
    requests.read(size)
    marker = requests.readline().strip()
    requests.readline()
    out.write(b"\n" + marker + b' {"result": null}\n')
    out.flush()
    request = requests.readline()
    content = Path(os.environ["REPLY"]).read_bytes().replace(b"@MARKER@", marker)
    repeat = content.startswith(b"@ENDLESS@")
    content = content.replace(b"@ENDLESS@", b"")
    while request:
        out.write(content)
        out.flush()
        if not repeat:
            break
    if content == b"@SILENT@" or b"@SILENT@" in content:
        requests.read()


if __name__ == "__main__":
    main()
