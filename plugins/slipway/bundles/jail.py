"""Runs one command shut off from this machine; a script of the standard library alone, run by `sandbox`.

`python -I -S jail.py CONFIG` where CONFIG is the JSON that `sandbox.Config` describes. With namespaces, the command
sees a root of its own in memory, with nothing but what CONFIG binds into it (read-only), no network but its own
loopback, and no other process; it has no capability and no way to get one. Without, only the resource limits hold.

    this process ── pid 1 of the namespaces ── the command
    waits           builds the root, waits,     resource limits,
                    hands out its result        then exec

When this process or pid 1 dies, the kernel kills all below. The report goes to the descriptor that CONFIG names: a
line of JSON (`status` or `signal` of the command, or `setup_error`), then the bytes of the command's result file.

See user_namespaces(7), mount_namespaces(7), pivot_root(2), mount_setattr(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import struct
import sys
from typing import Any, NoReturn

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_NOSUID, _NODEV, _NOEXEC, _REMOUNT, _RDONLY, _BIND, _REC, _PRIVATE = 2, 4, 8, 32, 1, 4096, 16384, 1 << 18
_DETACH = 2
_PDEATHSIG, _DUMPABLE, _SUBREAPER, _NO_NEW_PRIVS, _CAPBSET_DROP = 1, 4, 36, 38, 24
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442
_AT_RECURSIVE, _AT_EMPTY_PATH = 0x8000, 0x1000
_IFF_UP, _SIOCSIFFLAGS = 0x1, 0x8914
_NOBODY = 65534
_WRITABLE = ("/tmp", "/dev/shm")  # noqa: S108  # in memory, private to the command
_DEVICES = ("null", "zero", "full", "random", "urandom")

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> int:
    result: int = getattr(_libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    _call(
        "mount", source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags),
        data.encode() if data else None,
    )  # fmt: skip


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123  # pathlib would double this script's start
        file.write(text)


def main() -> int:
    config = json.loads(sys.argv[1])
    _call("prctl", _PDEATHSIG, signal.SIGKILL)
    _call("prctl", _SUBREAPER, 1)
    if os.getppid() != config["parent"]:
        return 1
    report = config["report"]
    if config["namespaces"]:
        uid, gid = os.geteuid(), os.getegid()
        try:
            _call("unshare", _NEWUSER | _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS)
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{_NOBODY} {uid} 1")
            _write("/proc/self/gid_map", f"{_NOBODY} {gid} 1")
            _call("prctl", _PDEATHSIG, signal.SIGKILL)  # the new credentials have cleared it
        except OSError as error:
            _report(report, {"setup_error": str(error)})
            return 1
    child = os.fork()
    if child == 0:
        _supervise(config)
    _, status = os.waitpid(child, 0)
    if not config["namespaces"]:
        _kill_orphans()
    return os.waitstatus_to_exitcode(status) & 0xFF


def _kill_orphans() -> None:
    """Kill what the command has left behind: as subreaper, this process has inherited all of it."""
    children = f"/proc/self/task/{os.getpid()}/children"
    while True:
        with open(children) as file:  # noqa: PTH123
            pids = [int(pid) for pid in file.read().split()]
        if not pids:
            return
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _supervise(config: dict[str, Any]) -> NoReturn:
    """Be pid 1 (or, without namespaces, the parent) of the command."""
    report = config["report"]
    _call("prctl", _PDEATHSIG, signal.SIGKILL)
    _call("prctl", _DUMPABLE, 0)
    if config["namespaces"]:
        try:
            _build_root(config)
        except OSError as error:
            _report(report, {"setup_error": str(error)})
            os._exit(1)
    command = os.fork()
    if command == 0:
        _become(config)
    while True:
        pid, status = os.wait()
        if pid == command:
            break
    code = os.waitstatus_to_exitcode(status)
    header = {"signal": -code} if code < 0 else {"status": code}
    _report(report, header, _result(config["result"], config["result_bytes"]))
    os._exit(0)


def _become(config: dict[str, Any]) -> NoReturn:
    """Take on the limits and become the command."""
    try:
        os.close(config["report"])
        _call("prctl", _PDEATHSIG, signal.SIGKILL)
        for name, wanted in config["limits"].items():
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            # One second between the soft limit, whose signal says what happened, and the hard one.
            grace = 1 if name == "RLIMIT_CPU" and limit != hard else 0
            resource.setrlimit(number, (limit, limit + grace))
        _call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
        os.chdir(config["cwd"])
        os.execve(config["command"][0], config["command"], config["environment"])  # noqa: S606
    except BaseException as error:  # noqa: BLE001  # nothing above may go on in this process
        os.write(2, f"{error}\n".encode())
    os._exit(127)


def _build_root(config: dict[str, Any]) -> None:
    # Opened before anything is mounted over them.
    sources = {source: os.open(source, os.O_PATH | os.O_CLOEXEC) for source, _ in config["binds"]}
    devices = {name: os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC) for name in _DEVICES}
    _mount("none", "/", None, _REC | _PRIVATE)
    root = config["mount_point"]
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "mode=755,size=16m")
    scratch = f"mode=1777,size={config['scratch_bytes']}"
    os.mkdir(f"{root}/proc")  # noqa: PTH102
    for folder in _WRITABLE:
        os.makedirs(root + folder)  # noqa: PTH103
        _mount("tmpfs", root + folder, "tmpfs", _NOSUID | _NODEV, scratch)
    for link, target in config["links"]:
        os.symlink(target, root + link)  # noqa: PTH211
    for source, target in config["binds"]:
        _bind(sources[source], root + target, read_only=True)
    for masked in config["masked"]:
        if os.path.isdir(root + masked):  # noqa: PTH112
            _mount("tmpfs", root + masked, "tmpfs", _NOSUID | _NODEV | _NOEXEC, "mode=755,size=16m")
            for source, target in config["binds"]:
                if target.startswith(masked + "/"):
                    _bind(sources[source], root + target, read_only=True)
    for name, descriptor in devices.items():
        _bind(descriptor, f"{root}/dev/{name}", read_only=False)
    for name, number in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{number}", f"{root}/dev/{name}")  # noqa: PTH211
    # Inside a container that hides parts of /proc the kernel allows no fresh one: then there is none.
    with contextlib.suppress(PermissionError):
        _mount("proc", f"{root}/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
        _write(f"{root}/proc/sys/user/max_user_namespaces", "0")  # no new ones, with capabilities of their own
    _mount("none", root, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    os.chdir(root)
    _call("syscall", _PIVOT_ROOT[os.uname().machine], b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir("/")
    for descriptor in (*sources.values(), *devices.values()):
        os.close(descriptor)
    socket.sethostname("probe")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loopback:
        fcntl.ioctl(loopback, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))


def _bind(descriptor: int, target: str, *, read_only: bool) -> None:
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.makedirs(target, exist_ok=True)  # noqa: PTH103
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(target, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o644))
    _mount(f"/proc/self/fd/{descriptor}", target, None, _BIND | _REC)
    if read_only:
        # struct mount_attr: set, clear, propagation, user namespace
        attributes = struct.pack("4Q", _RDONLY | _NOSUID | _NODEV, 0, 0, 0)
        mounted = os.open(target, os.O_PATH | os.O_CLOEXEC)
        try:
            _call("syscall", _MOUNT_SETATTR, mounted, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, attributes, len(attributes))
        finally:
            os.close(mounted)


def _result(path: str, limit: int) -> bytes:
    """Return the command's result file, if it is a plain file of at most `limit` bytes: the command is not trusted."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        data = file.read(limit + 1)
        return data if len(data) <= limit else b""


def _report(descriptor: int, header: dict[str, Any], data: bytes = b"") -> None:
    with os.fdopen(os.dup(descriptor), "wb") as out:
        out.write(json.dumps(header).encode() + b"\n" + data)


if __name__ == "__main__":
    sys.exit(main())
