"""The program of a fleet's scheduler, and of the worker on each board.

`launch` sends this text over standard input, on a board through ssh. A line of JSON follows it:

    module, arguments   the program of Dask, such as distributed.cli.dask_worker
    authority           the certificate of the authority, as a PEM text
    certificate         that of this process, with its private key
    package             the folder of lenet_edge for the scheduler, which accepts no code of boards

So the private key is in no command line, no environment variable and no file of other users. This
program imports Python and Dask only: a board with another lenet-edge can still report its version.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import tempfile

# Background work of Dask that would disturb measurements: a profiler that inspects the worker's
# threads 100 times a second, and a monitor that reads system figures twice a second.
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "60s",
}


def main() -> None:
    """Read the settings and run the program of Dask until it ends."""
    settings = json.loads(sys.stdin.buffer.readline())
    os.umask(0o077)
    import dask.config
    from distributed.node import ServerNode

    tls = {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": settings["authority"],
    }
    for role in ("client", "scheduler", "worker"):
        tls[f"distributed.comm.tls.{role}.cert"] = settings["certificate"]
        tls[f"distributed.comm.tls.{role}.key"] = None
    dask.config.set({**_QUIET, **tls})
    if settings["package"]:
        _guard(settings["package"])
    # Dask serves HTTP on every network interface, without TLS and even with --no-dashboard.
    ServerNode.start_http_server = lambda self, *arguments, **settings: None
    # A folder in /tmp with a fixed name could belong to another user.
    with tempfile.TemporaryDirectory(prefix="lenet-edge-") as folder:  # noqa: TID251
        dask.config.set({"temporary-directory": folder})
        sys.argv = [settings["module"], *settings["arguments"]]
        importlib.import_module(settings["module"]).main()


def _guard(package: str) -> None:
    """Import lenet_edge by file path, as `worker` does, and refuse code from boards."""
    spec = importlib.util.spec_from_file_location(
        "lenet_edge", f"{package}/__init__.py", submodule_search_locations=[package]
    )
    assert spec
    assert spec.loader
    module = sys.modules["lenet_edge"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    importlib.import_module("lenet_edge.fleet.untrusted").install()


if __name__ == "__main__":
    main()
