"""TCP ports on loopback: which are free, and who holds the others."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_LISTEN = "0A"


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT is free, one that somebody listens on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def pick_free(count: int) -> list[int]:
    """Different ports that are free now, as the kernel picks them."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def holder(port: int) -> str | None:
    """`name (pid N)` of the process that listens on the port, or None if this user may not see it.

    Source: proc(5), /proc/net/tcp gives the socket's inode, and /proc/PID/fd whose it is.
    """
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for link in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        with contextlib.suppress(OSError):  # it was closed meanwhile, or is another user's
            if os.readlink(link) in inodes:  # noqa: PTH115  # a text, not a path
                process = link.parents[1]
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for row in table.read_text().splitlines()[1:]:
            _, local, _, state, *rest = row.split()
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                found.add(rest[5])
    return found
