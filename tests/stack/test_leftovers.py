"""Children of a process that was killed are found again and ended, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from slipway_stack.leftovers import Group

# A leader with two children that ignore SIGTERM, as Airflow's workers do; one is in a process group of its own.
LEADER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for own_group in (False, True):
    if os.fork() == 0:
        if own_group:
            os.setpgid(0, 0)
        time.sleep(300)
print("ready", flush=True)
time.sleep(300)
"""


def start_leader() -> tuple[subprocess.Popen[str], Group]:
    leader = subprocess.Popen([sys.executable, "-c", LEADER], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert leader.stdout
    assert leader.stdout.readline() == "ready\n"
    time.sleep(0.2)  # the children set their groups
    return leader, Group(leader.pid, leader.pid, Group.own().boot)


def kill(leader: subprocess.Popen[str]) -> None:
    leader.kill()
    leader.wait()


def test_orphans_are_ended_by_group_and_by_session() -> None:
    leader, group = start_leader()
    kill(leader)
    assert len(group.members()) == 1
    assert len(group.members(whole_session=True)) == 2
    began = time.monotonic()
    assert group.end() == 1
    assert group.members() == []
    assert group.end(whole_session=True) == 1
    assert group.members(whole_session=True) == []
    assert time.monotonic() - began > 5  # they were asked before they were killed


def test_the_caller_s_own_session_is_spared() -> None:
    own = Group.own()
    nobody = Group(group=2**30, session=own.session, boot=own.boot)
    assert os.getpid() in nobody.members(whole_session=True)
    assert nobody.end(whole_session=True) == 0


def test_a_note_from_before_the_last_boot_means_nothing(tmp_path: Path) -> None:
    note = tmp_path / "x.group"
    Group.own().note(note)
    assert Group.noted(note) == Group.own()
    note.write_text(json.dumps({"group": 1, "session": 1, "boot": "another"}))
    assert Group.noted(note) is None
    note.write_text("123")
    assert Group.noted(note) is None
    assert Group.noted(tmp_path / "missing") is None


def test_the_launcher_clears_the_place_and_becomes_the_program(tmp_path: Path) -> None:
    leader, group = start_leader()
    kill(leader)
    group.note(tmp_path / "web.group")
    program = {
        "command": [sys.executable, "-c", "import os; print(os.getcwd(), os.environ['SECRET'], os.getpid())"],
        "environment": {"SECRET": "s3cret"},
        "directory": str(tmp_path),
    }
    (tmp_path / "web.json").write_text(json.dumps(program))
    script = Path(sys.modules["slipway_stack"].__path__[0]) / "launch.py"
    launched = subprocess.Popen(
        [sys.executable, "-S", str(script), str(tmp_path), "web"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said, _ = launched.communicate(timeout=30)
    assert said.splitlines() == [
        "web: ended 1 processes that an earlier one left behind",
        f"{tmp_path} s3cret {launched.pid}",
    ]
    noted = Group.noted(tmp_path / "web.group")
    assert noted == Group(launched.pid, launched.pid, Group.own().boot)
    for pid in group.members(whole_session=True):
        os.kill(pid, signal.SIGKILL)
