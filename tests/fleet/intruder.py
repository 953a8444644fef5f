"""Another account that connects to a fleet: ``python -m tests.fleet.intruder FOLDER PORT...``

It has certificates of an authority of its own, and knows every port. For each port and kind of
connection it asks for the identity of the process that listens, and to run a function there. It
prints what succeeded as JSON. FOLDER holds the certificates of the fleet.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import ssl
import sys
from pathlib import Path
from typing import Any

from distributed.comm import connect
from distributed.security import Security

from lenet_edge.fleet.certificates import make_certificates

NOBODY = 65534


def connection_arguments() -> dict[str, dict[str, Any]]:
    pems = make_certificates()
    own = Security(
        require_encryption=True, tls_ca_file=pems.authority, tls_client_cert=pems.client
    ).get_connection_args("client")
    own["ssl_context"].verify_mode = ssl.CERT_NONE  # the intruder takes any server
    bare = ssl.create_default_context()
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    return {"tcp": {}, "tls": {"ssl_context": bare}, "own": own}


async def ask(address: str, arguments: dict[str, Any]) -> str:
    comm = await connect(address, timeout=1, **arguments)
    code = {"op": "run_function", "function": pickle.dumps(os.getuid), "args": pickle.dumps(())}
    for message in ({"op": "identity"}, code):
        await comm.write(message)
        await asyncio.wait_for(comm.read(), 3)
    return "answered"


async def main(folder: Path, ports: list[str]) -> dict[str, str]:
    kinds, outcomes = connection_arguments(), {}
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    for port in ports:
        for kind, arguments in kinds.items():
            scheme = "tcp" if kind == "tcp" else "tls"
            try:
                outcome = await ask(f"{scheme}://127.0.0.1:{port}", arguments)
            except Exception:
                outcome = "refused"
            outcomes[f"{kind} {port}"] = outcome
    for name in ("authority", "client", "board"):
        try:
            outcomes[name] = (folder / f"{name}.pem").read_text() and "read"
        except OSError:
            outcomes[name] = "refused"
    return outcomes


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))))
