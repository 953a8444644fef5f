"""TLS certificates of a fleet: new for each start of a scheduler, and valid for nothing else.

Three certificates are signed: for the scheduler, for the clients on this machine, and for the
boards. The private key of the authority is then discarded. The scheduler and the boards get theirs
over standard input. A folder that only this user can open holds the others, because later commands
connect, and may start more boards.
"""

from __future__ import annotations

import datetime
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.errors import LenetEdgeError, MissingPackageError
from lenet_edge.support.files import atomic_folder, cache_folder, private_cache_folder

EXTRA = "fleet"
BOARD, CLIENT, SCHEDULER = "lenet-edge board", "lenet-edge client", "lenet-edge scheduler"
# The clock of a board may be wrong. The keys expire when they are deleted.
_VALID = datetime.datetime(1970, 1, 1), datetime.datetime(9999, 12, 31)


@dataclass(frozen=True)
class Certificates:
    """The certificate of the authority, and those that it signed, each with its private key.

    All are PEM texts. `scheduler` is None where they were read from the folder.
    """

    authority: str
    client: str
    board: str
    scheduler: str | None = None


def folder_of(port: int) -> Path:
    """Return the folder with the certificates of the scheduler at a port of this machine."""
    return cache_folder("fleet") / str(port)


def make_certificates() -> Certificates:
    """Return the certificates of a new authority.

    Raises:
        MissingPackageError: the package `cryptography` is not installed.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError:
        raise MissingPackageError("cryptography", EXTRA) from None

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = named("lenet-edge fleet")

    def sign(name: x509.Name, key: ec.EllipticCurvePrivateKey, is_authority: bool) -> str:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_VALID[0])
            .not_valid_after(_VALID[1])
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        signed = builder.sign(authority_key, hashes.SHA256())
        return str(signed.public_bytes(serialization.Encoding.PEM), "ascii")

    def pair(name: str) -> str:
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return sign(named(name), key, False) + str(private, "ascii")

    authority = sign(authority_name, authority_key, True)
    return Certificates(authority, pair(CLIENT), pair(BOARD), pair(SCHEDULER))


def save(certificates: Certificates, port: int) -> None:
    """Write the certificates of the clients and of the boards, for this user only.

    Raises:
        LenetEdgeError: the folder cannot be written to.
    """
    private_cache_folder("fleet")
    with atomic_folder(folder_of(port), 0o700) as folder:
        for name in ("authority", "client", "board"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(folder / f"{name}.pem", flags, 0o600), "w") as file:
                file.write(getattr(certificates, name))


def load(port: int) -> Certificates | None:
    """Return the certificates in the folder, or None if there is none.

    Raises:
        LenetEdgeError: another user can open the folder, or the certificates cannot be read.
    """
    folder = folder_of(port)
    try:
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise LenetEdgeError(f"other users can open {folder}; delete it, then start the fleet")
        texts = ((folder / f"{name}.pem").read_text() for name in ("authority", "client", "board"))
        return Certificates(*texts)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LenetEdgeError(f"cannot read {folder}: {error}; delete it") from error


def remove(port: int) -> None:
    """Delete the folder, if there is one."""
    folder = folder_of(port)
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
