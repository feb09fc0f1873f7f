"""Runs a program that is not trusted: shut off from this machine where the kernel can do it, always within limits."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slipway.bundles.limits import Limits
from slipway.errors import SlipwayError

__all__ = ["Outcome", "run_confined"]

_log = logging.getLogger(__name__)

_JAIL = Path(__file__).with_name("jail.py")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store",
           "/sys/devices/system/cpu", "/sys/devices/system/node")  # fmt: skip
# Of /etc only what a linker, a locale, a clock and a certificate store need.
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "fonts", "group", "hosts", "localtime",
        "mime.types", "nsswitch.conf", "passwd", "ssl/certs", "ssl/openssl.cnf", "timezone")  # fmt: skip
_TAIL_BYTES = 64 * 1024
_RESULT_BYTES = 64 * 1024**2
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a confined program ended."""

    status: int | None  # exit status, None if a signal ended it
    signal: int | None
    stopped: str | None  # "time" or "memory" if a limit of ours ended it
    result: bytes  # what it wrote to its result file
    output: str  # the end of what it printed
    isolated: bool  # whether it ran without sight of network, files and processes
    seconds: float
    peak_bytes: int  # largest memory seen of all its processes together


def run_confined(
    command: Sequence[str],
    *,
    limits: Limits,
    visible: Iterable[Path],
    masked: Iterable[Path],
    environment: dict[str, str],
    tell: Callable[[str], None] = _log.info,
) -> Outcome:
    """Run `command` in a sandbox until it ends or a limit does it.

    `{result}` in an argument stands for the path of its result file, which is the only thing that comes back.

    :param visible: folders and files that it may read, besides the operating system's.
    :param masked: folders that it must not see, even where they are inside of visible ones.
    :param environment: all of its environment variables.
    :param tell: is given a line when this machine cannot isolate it.
    :raises SlipwayError: if it cannot be started at all.
    """
    attempt = partial(
        _attempt, command, limits=limits, visible=list(visible), masked=list(masked), environment=environment
    )
    with tempfile.TemporaryDirectory(prefix="slipway-probe-") as scratch:
        outcome = attempt(Path(scratch), namespaces=True)
        if isinstance(outcome, str):
            tell(
                f"This machine cannot isolate the probe ({outcome}): it runs with resource limits and a scrubbed "
                "environment, but sees the network, files and processes that Airflow sees."
            )
            outcome = attempt(Path(scratch), namespaces=False)
    if isinstance(outcome, str):
        raise SlipwayError(f"The probe cannot be started on this machine: {outcome}.")
    return outcome


def _attempt(
    command: Sequence[str],
    scratch: Path,
    *,
    limits: Limits,
    visible: list[Path],
    masked: list[Path],
    environment: dict[str, str],
    namespaces: bool,
) -> Outcome | str:
    """Run it once; returns why, if the sandbox could not be made."""
    home = "/tmp" if namespaces else str(scratch)  # noqa: S108  # inside, /tmp is private
    result = f"{home}/result.json"
    receiving, reporting = os.pipe()
    config = {
        "parent": os.getpid(),
        "report": reporting,
        "namespaces": namespaces,
        "command": [part.replace("{result}", result) for part in command],
        "environment": {**environment, "HOME": home, "TMPDIR": home},
        "cwd": home,
        "result": result,
        "result_bytes": _RESULT_BYTES,
        "scratch_bytes": limits.probe_scratch_bytes,
        "mount_point": str(scratch),
        "limits": _resource_limits(limits),
        **_view(visible, masked),
    }
    started = time.monotonic()
    jail = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_JAIL), json.dumps(config)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        pass_fds=[reporting], start_new_session=True, env={}, cwd="/",
    )  # fmt: skip
    os.close(reporting)
    assert jail.stdout is not None  # noqa: S101
    output, report = _Tail(jail.stdout.fileno(), _TAIL_BYTES), _Tail(receiving, _RESULT_BYTES + 4096)
    stopped: str | None = None
    peak = 0
    try:
        while jail.poll() is None and stopped is None:
            peak = max(peak, _memory_of(_descendants(jail.pid)))
            if time.monotonic() - started > limits.probe_seconds:
                stopped = "time"
            elif peak > limits.probe_memory_bytes:
                stopped = "memory"
            else:
                _wait(jail, _POLL_SECONDS)
    finally:
        _kill_all(jail)
    printed, reported = output.finish(), report.finish()
    os.close(receiving)
    jail.stdout.close()
    head, _, data = reported.partition(b"\n")
    ended = json.loads(head) if head else {}
    if "setup_error" in ended:
        return str(ended["setup_error"])
    if not ended and stopped is None:
        return (
            f"its supervisor ended with status {jail.returncode} and said {printed[-200:].decode(errors='replace')!r}"
        )
    return Outcome(
        status=ended.get("status"),
        signal=ended.get("signal"),
        stopped=stopped,
        result=data,
        output=printed.decode("utf-8", "replace"),
        isolated=namespaces,
        seconds=time.monotonic() - started,
        peak_bytes=peak,
    )


def _resource_limits(limits: Limits) -> dict[str, int]:
    return {
        "RLIMIT_CPU": limits.probe_cpu_seconds,
        "RLIMIT_DATA": limits.probe_memory_bytes,
        "RLIMIT_FSIZE": limits.probe_scratch_bytes,
        "RLIMIT_NPROC": limits.probe_processes + _threads_of_user(),
        "RLIMIT_CORE": 0,
    }


def _view(visible: list[Path], masked: list[Path]) -> dict[str, list[list[str]] | list[str]]:
    """Return which paths the sandbox has: binds, links of the system's root, and what is masked in them."""
    binds: dict[str, str] = {}
    links: list[list[str]] = []
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            links.append([name, str(path.readlink())])
        elif path.exists():
            binds[name] = name
    for path in (Path("/etc") / name for name in _ETC):
        if path.exists():
            binds[str(path.resolve())] = str(path)
    for path in visible:
        binds[str(path.resolve())] = str(path.absolute())
    return {
        "binds": [[source, target] for source, target in sorted(binds.items(), key=lambda item: item[1].count("/"))],
        "links": links,
        "masked": sorted({str(path.absolute()) for path in masked if path.is_dir() and str(path.absolute()) != "/"}),
    }


class _Tail:
    """The last bytes that come out of a descriptor, read by a thread so that the writer never waits."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._data = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := os.read(self._descriptor, 65536):
            self._data += data
            if len(self._data) > 2 * self._limit:
                del self._data[: -self._limit]

    def finish(self) -> bytes:
        """Wait for the end and return what came last."""
        self._thread.join(_PATIENCE_SECONDS)
        return bytes(self._data[-self._limit :])


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _kill_all(jail: subprocess.Popen[bytes]) -> None:
    """Kill the jail and everything below it, also what has left its process group."""
    for _ in range(100):
        below = _descendants(jail.pid) if jail.poll() is None else []
        for pid in below:
            _kill(pid)
        if not below or jail.poll() is not None:
            break
    if jail.poll() is None:
        _kill(jail.pid)
    jail.wait()
    try:
        os.killpg(jail.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # The second field is the command's name in parentheses, which may hold anything.
                parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    open_ = [pid]
    while open_:
        below = children.get(open_.pop(), [])
        found += below
        open_ += below
    return found


def _memory_of(pids: list[int]) -> int:
    """Return the private memory of processes, in bytes."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/statm").read_bytes().split()
        except OSError:
            continue
        total += int(fields[1]) - int(fields[2])
    return total * os.sysconf("SC_PAGE_SIZE")


def _threads_of_user() -> int:
    """Return how many threads this user runs: kernels before 5.14, and any without namespaces, count them all."""
    uid = os.geteuid()
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if entry.stat().st_uid == uid:
                    total += sum(1 for _ in (entry / "task").iterdir())
            except OSError:
                continue
    return total
