"""The supervisor of the stack (http://supervisord.org): its configuration, and talking to it over its socket."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

from slipway_stack import environment
from slipway_stack.errors import StackError
from slipway_stack.keys import write_private
from slipway_stack.leftovers import Group
from slipway_stack.programs import Program
from slipway_stack.settings import Stack

_LAUNCH = Path(__file__).with_name("launch.py")
# The longest name that a Unix socket can have, with its closing NUL (unix(7)).
_LONGEST_SOCKET = 107
_STOP_SECONDS = 60.0
_START_SECONDS = 15.0

_HEAD = """\
[supervisord]
directory = {home}
pidfile = {pidfile}
logfile = {logs}/supervisor.log
logfile_maxbytes = 5MB
logfile_backups = 1
childlogdir = {logs}
umask = 077

[unix_http_server]
file = {socket}
chmod = 0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

# Restarted whenever it ends; what does not even stay up for `startsecs` is tried again, a second later each
# time.
_PROGRAM = """
[program:{name}]
command = "{python}" -S "{launch}" "{run}" {name}
autostart = false
autorestart = true
startsecs = 3
startretries = 30
stopsignal = TERM
stopwaitsecs = 25
stopasgroup = {stop_children}
killasgroup = true
redirect_stderr = true
stdout_logfile = {logs}/{name}.log
stdout_logfile_maxbytes = 20MB
stdout_logfile_backups = 2
"""


class Supervisor:
    """The one supervisor of a stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._socket = socket_path(stack)
        self._config = stack.run / "supervisor.conf"
        self._pidfile = stack.run / "supervisor.pid"
        self._server: Any = xmlrpc.client.ServerProxy("http://slipway", transport=_UnixTransport(self._socket))

    def is_running(self) -> bool:
        """Whether the supervisor answers."""
        try:
            self._server.supervisor.getState()
        except (OSError, http.client.HTTPException):
            return False
        return True

    def launch(self, programs: list[Program]) -> None:
        """Start the supervisor, detached from this terminal, with every program stopped.

        Raises `StackError` if it does not start.
        """
        self._write(programs)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config)]
        finished = subprocess.run(
            command,
            env=environment.inherited() | environment.shared(self._stack),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        deadline = time.monotonic() + _START_SECONDS
        while finished.returncode == 0 and time.monotonic() < deadline:
            if self.is_running():
                return
            time.sleep(0.05)
        said = finished.stderr.strip().splitlines()
        reason = said[-1] if said else f"see {self._stack.logs / 'supervisor.log'}"
        raise StackError(f"The supervisor did not start: {reason}")

    def start(self, name: str) -> None:
        """Start one program, if it is not running; it is not waited for."""
        with contextlib.suppress(xmlrpc.client.Fault):  # already started
            self._server.supervisor.startProcess(name, False)

    def states(self) -> dict[str, dict[str, Any]]:
        """What the supervisor says of each program: `statename`, `pid`, `start`, `description`, …"""
        return {str(info["name"]): info for info in self._server.supervisor.getAllProcessInfo()}

    def unknown_settings(self, programs: list[Program]) -> list[str]:
        """The variables that programs would be started with now, and that those which run were not started with."""
        changed: set[str] = set()
        for program in programs:
            file = self._launch_file(program.name)
            running = json.loads(file.read_text())["environment"] if file.exists() else {}
            changed |= {name for name, value in program.environment.items() if running.get(name) != value}
        return sorted(changed - {"PATH"})

    def stop(self) -> bool:
        """End every process of the stack, then the supervisor; return whether there was anything to end."""
        was_running = self.is_running()
        pid = self._pid()
        if was_running:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._server.supervisor.stopAllProcesses()  # all at once; `shutdown` would go one by one
                self._server.supervisor.shutdown()
        elif pid:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while pid and self._pid() == pid:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        return self._end_leftovers() > 0 or was_running or pid is not None

    def _pid(self) -> int | None:
        """The supervisor's process, if it lives and is ours."""
        try:
            pid = int(self._pidfile.read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self._config) in arguments else None

    def _end_leftovers(self) -> int:
        """End what a supervisor that is gone left behind; all its programs were in one session."""
        ended = 0
        for note in self._stack.run.glob("*.group"):
            group = Group.noted(note)
            ended += group.end(whole_session=True) if group else 0
            note.unlink()
        return ended

    def _launch_file(self, name: str) -> Path:
        return self._stack.run / f"{name}.json"

    def _write(self, programs: list[Program]) -> None:
        stack = self._stack
        paths = {"home": stack.home, "run": stack.run, "logs": stack.logs, "launch": _LAUNCH}
        values = {name: str(path).replace("%", "%%") for name, path in paths.items()}
        values |= {"python": sys.executable.replace("%", "%%")}
        values |= {"socket": str(self._socket).replace("%", "%%")}
        values |= {"pidfile": str(self._pidfile).replace("%", "%%")}
        text = _HEAD.format(**values)
        inherited = environment.inherited()
        for program in programs:
            stop_children = str(program.stop_children).lower()
            text += _PROGRAM.format(name=program.name, stop_children=stop_children, **values)
            launched = {
                "command": program.command,
                "environment": inherited | program.environment,
                "directory": str(stack.home),
            }
            write_private(self._launch_file(program.name), json.dumps(launched, indent=2))
        write_private(self._config, text)


def socket_path(stack: Stack) -> Path:
    """The supervisor's socket: in the stack's home, unless that path is too long for a socket."""
    path = stack.run / "supervisor.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return path
    digest = hashlib.sha256(os.fsencode(stack.home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"slipway-{os.getuid()}-{digest}.sock"


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """A new connection for each call: a call that waits for processes must not block the next."""
        return _UnixConnection(str(host), self._path)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, host: str, path: Path) -> None:
        super().__init__(host, timeout=_STOP_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
