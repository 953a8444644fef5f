"""A fleet over Dask's TLS: only peers with certificates of the same authority connect."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet.cluster import Cluster

EXPORTED = Path(__file__).parents[2] / "exported"
pytestmark = [pytest.mark.slow, pytest.mark.needs("openssl")]


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """Dask's settings for a new certificate authority and a certificate that it signed."""
    key, own, request, signed = (
        tmp_path / name for name in ("ca-key.pem", "key.pem", "request.pem", "cert.pem")
    )
    authority = tmp_path / "ca.pem"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", authority,
            "-days", "2", "-subj", "/CN=fleet")  # fmt: skip
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", own, "-out", request,
            "-subj", "/CN=board")  # fmt: skip
    openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-CAcreateserial",
            "-out", signed, "-days", "2")  # fmt: skip
    roles = ("CLIENT", "SCHEDULER", "WORKER")
    prefix = "DASK_DISTRIBUTED__COMM__"
    return {
        f"{prefix}REQUIRE_ENCRYPTION": "True",
        f"{prefix}TLS__CA_FILE": str(authority),
        **{f"{prefix}TLS__{role}__CERT": str(signed) for role in roles},
        **{f"{prefix}TLS__{role}__KEY": str(own) for role in roles},
    }


def test_a_fleet_over_tls(certificates: dict[str, str], tmp_path: Path) -> None:
    file = EXPORTED / "lenet_int8.tflite"
    with pytest.MonkeyPatch.context() as settings:
        for name, value in certificates.items():
            settings.setenv(name, value)
        boards = Cluster(tmp_path, "tls")
        boards.add("a")

    def verify(address: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = ["verify", str(file), "--target", "litert", "--scheduler", address]
        return subprocess.run(
            [sys.executable, "-m", "lenet_edge", *command],
            cwd=tmp_path, env={**os.environ, **more}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    with contextlib.closing(boards):
        for _ in range(60):  # until the board has joined
            done = verify(boards.address, **certificates)
            if done.returncode != 1:
                break
        assert done.returncode == 0, done.stderr + boards.log("scheduler") + boards.log("a")
        assert "litert-xnnpack" in done.stdout
        plain = boards.address.replace("tls", "tcp")
        refused = {
            "Dask's configuration names no certificates": verify(boards.address),
            "is not encrypted, and Dask's configuration requires": verify(plain, **certificates),
            "no scheduler answers at": verify(plain),
        }
    for message, failed in refused.items():
        assert (failed.returncode, failed.stderr.count("\n")) == (1, 1), failed.stderr
        assert message in failed.stderr
