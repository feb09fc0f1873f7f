"""A certificate authority of the sandbox's own, and a bundle that trusts it beside the public ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import certifi
import trustme

__all__ = ["Certificates", "certificates"]


@dataclass(frozen=True)
class Certificates:
    """PEM files: the server's key and certificate chain, and what a client trusts."""

    key: Path
    chain: Path
    bundle: Path


def certificates(home: Path) -> Certificates:
    """Return the certificates below `home`, made when they are not there yet."""
    made = Certificates(key=home / "key.pem", chain=home / "chain.pem", bundle=home / "ca-bundle.pem")
    if not made.bundle.is_file():
        home.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA(organization_name="Slipway sandbox")
        server = authority.issue_cert("127.0.0.1", "localhost")
        made.key.touch(mode=0o600)
        server.private_key_pem.write_to_path(str(made.key))
        made.chain.write_bytes(b"".join(part.bytes() for part in server.cert_chain_pems))
        # Last, because it says that the others are whole.
        made.bundle.write_bytes(b"\n".join([*_trusted_here(), authority.cert_pem.bytes()]))
    return made


def _trusted_here() -> list[bytes]:
    """What this machine trusts: a client of the sandbox goes on talking to package indexes and the like."""
    named = [os.environ.get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt", certifi.where()]
    return [Path(path).read_bytes() for path in dict.fromkeys(named) if path and Path(path).is_file()]
