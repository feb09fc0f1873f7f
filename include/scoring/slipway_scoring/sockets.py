"""The listening socket that all workers share, and how to close it without losing a connection.

The supervisor owns the socket, so a connection waits in its queue while a worker is replaced. Closing a listening TCP
socket resets what is in that queue; so before it closes, a filter of two instructions makes the kernel drop new SYNs,
and the workers empty the queue.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import stat
import struct
import sys
from pathlib import Path

BACKLOG = 2048
_SO_ATTACH_FILTER = 26
_TCP_INFO_UNACKED = 24
"""Offset of `tcpi_unacked` in struct tcp_info: for a listening socket, the connections that wait to be accepted."""
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the TCP flags
    (0x45, 0, 1, 0x02),  # SYN set?
    (0x06, 0, 0, 0),  # yes: drop
    (0x06, 0, 0, 0xFFFFFFFF),  # no: keep
)


class ListenError(Exception):
    """The address cannot be listened on; one sentence."""


def listen(host: str, port: int, uds: str) -> socket.socket:
    """A listening socket on `host:port`, or on the Unix domain socket `uds` if that is given.

    Raises:
        ListenError: the address is taken, not allowed or not there.
    """
    try:
        if uds:
            return _listen_uds(Path(uds))
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        where = uds or f"{host}:{port}"
        reason = "it is in use" if getattr(error, "errno", None) == errno.EADDRINUSE else str(error)
        raise ListenError(f"The server cannot listen on {where} ({reason}): free it or choose another one.") from error
    listener.setblocking(False)
    return listener


def _listen_uds(path: Path) -> socket.socket:
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                path.unlink()  # Left behind by a server that was killed.
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o660)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def address(listener: socket.socket) -> str:
    """Where it listens, for the log."""
    name = listener.getsockname()
    return f"unix:{name}" if listener.family == socket.AF_UNIX else f"{name[0]}:{name[1]}"


def refuse_new(listener: socket.socket) -> None:
    """From now on nobody can connect; those who have can still be accepted."""
    if listener.family == socket.AF_UNIX:
        Path(listener.getsockname()).unlink(missing_ok=True)
    elif sys.platform == "linux":
        code = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
        buffer = ctypes.create_string_buffer(code)
        program = struct.pack("HL", len(_DROP_SYN), ctypes.addressof(buffer))
        # Without capabilities the kernel refuses once all filters of the machine, those of its containers' seccomp
        # among them, fill `net.core.bpf_jit_limit`. Then who connects at the very end is reset.
        with contextlib.suppress(PermissionError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def waiting(listener: socket.socket) -> int:
    """How many connections wait to be accepted; 0 where the kernel does not say (Unix domain sockets)."""
    if listener.family == socket.AF_UNIX or sys.platform != "linux":
        return 0
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
    (count,) = struct.unpack_from("I", info, _TCP_INFO_UNACKED)
    return int(count)
