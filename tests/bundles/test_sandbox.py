"""What a confined program can see, reach and use up: nothing but its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.bundles import sandbox
from slipway.bundles.limits import Limits
from slipway.bundles.sandbox import Outcome, run_confined

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
LIMITS = replace(
    Limits(),
    probe_seconds=20,
    probe_cpu_seconds=2,
    probe_memory_bytes=512 << 20,
    probe_scratch_bytes=16 << 20,
    probe_processes=64,
)
Confined = Callable[..., Outcome]


def confined(program: str, *, limits: Limits = LIMITS, visible: list[Path] | None = None, **more: Any) -> Outcome:
    """Run a Python program in the sandbox; `result` in it is the path of its result file."""
    return run_confined(
        [str(PYTHON), "-I", "-c", f"import sys; result = sys.argv[1]\n{program}", "{result}"],
        limits=limits,
        visible=[PYTHON.parent.parent, *(visible or [])],
        masked=more.pop("masked", []),
        environment=more.pop("environment", {"ONLY": "this"}),
        **more,
    )


def is_running(marker: str) -> bool:
    """Whether some process has `marker` in its arguments."""
    for entry in Path("/proc").iterdir():
        try:
            arguments = (entry / "cmdline").read_bytes().replace(b"\0", b" ") if entry.name.isdecimal() else b""
        except OSError:
            continue
        if marker.encode() in arguments:
            return True
    return False


def report(program: str, **more: Any) -> Any:
    outcome = confined(f"import json, os\n{program}\nopen(result, 'w').write(json.dumps(answer))", **more)
    assert outcome.status == 0, outcome.output
    assert outcome.isolated
    return json.loads(outcome.result)


def test_it_sees_nothing_of_the_machine(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("password")
    answer = report(
        f"answer = [os.path.exists(p) for p in ({str(secret)!r}, '/root/.ssh', '/home', '/etc/shadow', '/run', '/var',"
        f" {str(ROOT / 'README.md')!r}, '/sys/class/net')]"
    )
    assert answer == [False] * 8


def test_it_sees_no_other_process_and_no_other_variable() -> None:
    processes, variables, user, status = report(
        "answer = [[p for p in os.listdir('/proc') if p.isdigit()], dict(os.environ), os.getuid(),"
        " open('/proc/self/status').read()]"
    )
    assert processes == ["1", "2"]
    assert {key: value for key, value in variables.items() if key != "LC_CTYPE"} == {
        "ONLY": "this", "HOME": "/tmp", "TMPDIR": "/tmp",
    }  # fmt: skip
    assert user != 0
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    assert "CapPrm:\t0000000000000000" in status


def test_it_reaches_no_network_but_itself() -> None:
    interfaces, errors, own = report(
        """
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname())
errors = []
for address in (("192.0.2.1", 80), ("127.0.0.1", 1)):
    try:
        socket.create_connection(address, 2)
    except OSError as error:
        errors.append(error.errno)
answer = [[name for _, name in socket.if_nameindex()], errors, True]
"""
    )
    assert "lo" in interfaces
    assert errors == [101, 111]  # network is unreachable; its own loopback refuses
    assert own


def test_it_can_write_to_memory_only(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "file").write_text("original")
    answer = report(
        f"""
answer = []
bundle = {str(bundle)!r}
for folder in (bundle, "/usr", "/", "/dev", "/tmp", "/dev/shm"):
    path = folder + "/new" if folder != bundle else bundle + "/file"
    try:
        open(path, "w").write("x")
        answer.append(0)
    except OSError as error:
        answer.append(error.errno)
""",
        visible=[bundle],
    )
    assert answer == [30, 30, 30, 30, 0, 0]
    assert (bundle / "file").read_text() == "original"
    assert not Path("/tmp/new").exists()


def test_it_gets_no_new_namespaces_or_mounts() -> None:
    answer = report(
        "import subprocess\nanswer = [subprocess.run(c, shell=True, capture_output=True).returncode != 0"
        " for c in ('unshare -r true', 'mount -t tmpfs none /tmp', 'mount -o remount,rw /')]"
    )
    assert answer == [True, True, True]


def test_masked_folders_are_empty_and_what_is_visible_in_them_stays(tmp_path: Path) -> None:
    home = tmp_path / "airflow"
    (home / "environments" / "one").mkdir(parents=True)
    (home / "airflow.cfg").write_text("secret")
    (home / "environments" / "one" / "file").write_text("x")
    answer = report(
        f"answer = [os.listdir({str(home)!r}), os.listdir({str(home / 'environments')!r}),"
        f" os.listdir({str(home / 'environments' / 'one')!r})]",
        visible=[tmp_path, home / "environments" / "one"],
        masked=[home],
    )
    assert answer == [["environments"], ["one"], ["file"]]


@pytest.mark.parametrize(
    ("program", "status", "number", "stopped"),
    [
        ("import time; time.sleep(100)", None, None, "time"),
        ("while True: pass", None, signal.SIGXCPU, None),
        ("import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", None, signal.SIGKILL, None),
        ("data = []\nwhile True: data.append(bytearray(1 << 22))", 1, None, None),
        (
            "import os\nwhile True: os.write(os.open('/tmp/big', os.O_APPEND | os.O_CREAT | os.O_WRONLY), bytes(1 << "
            "20))",
            1,
            None,
            None,
        ),
        ("import os; os.kill(os.getpid(), 11)", None, signal.SIGSEGV, None),
        ("import os; os._exit(7)", 7, None, None),
    ],
)
def test_limits_end_it(program: str, status: int | None, number: int | None, stopped: str | None) -> None:
    limits = replace(LIMITS, probe_seconds=3 if stopped else 20)
    outcome = confined(program, limits=limits)
    assert (outcome.status, outcome.signal, outcome.stopped) == (status, number, stopped)
    assert outcome.seconds < 12


@pytest.mark.parametrize("namespaces", [True, False])
def test_nothing_survives_it(namespaces: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not namespaces:
        monkeypatch.setattr(sandbox, "_attempt", _without_namespaces(sandbox._attempt))
    marker = f"slipway-test-{os.getpid()}-{namespaces}"
    program = f"""
import os, time
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", {marker!r}])
        os._exit(0)
time.sleep(1)
"""
    told: list[str] = []
    outcome = confined(program, tell=told.append)
    assert outcome.status == 0, outcome.output
    assert outcome.isolated is namespaces
    assert bool(told) is not namespaces
    assert not is_running(marker)


def _without_namespaces(attempt: Callable[..., Outcome | str]) -> Callable[..., Outcome | str]:
    """A machine that allows no namespaces."""

    def tried(*arguments: Any, namespaces: bool, **more: Any) -> Outcome | str:
        return "unshare: Operation not permitted" if namespaces else attempt(*arguments, namespaces=False, **more)

    return tried


def test_without_namespaces_limits_and_environment_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_attempt", _without_namespaces(sandbox._attempt))
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "secret")
    told: list[str] = []
    program = "import json, os\nopen(result, 'w').write(json.dumps([dict(os.environ), os.getcwd()]))"
    outcome = confined(program, tell=told.append)
    assert not outcome.isolated
    assert "This machine cannot isolate the probe (unshare: Operation not permitted)" in told[0]
    variables, folder = json.loads(outcome.result)
    assert set(variables) - {"LC_CTYPE"} == {"ONLY", "HOME", "TMPDIR"}
    assert not Path(folder).exists()
    assert confined("while True: pass").signal == signal.SIGXCPU


def test_memory_of_all_processes_together_is_limited() -> None:
    outcome = confined(
        "import os, time\nfor _ in range(4):\n    if os.fork() == 0: break\ndata = b'x' * (200 << 20)\ntime.sleep(60)"
    )
    assert outcome.stopped == "memory"


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    marker = f"slipway-orphan-{os.getpid()}"
    program = f"""
import sys
from pathlib import Path
from slipway.bundles.limits import Limits
from slipway.bundles.sandbox import run_confined
run_confined([{str(PYTHON)!r}, "-c", "import time; print('up', flush=True); time.sleep(600)", {marker!r}],
             limits=Limits(), visible=[Path({str(PYTHON.parent.parent)!r})], masked=[], environment={{}})
"""
    caller = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins"), "TMPDIR": str(tmp_path)},
    )

    deadline = time.monotonic() + 30
    try:
        while not is_running(f"600) {marker}"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        caller.kill()
        caller.wait()
    while is_running(marker):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_output_is_bounded_and_result_must_be_a_plain_file() -> None:
    outcome = confined("print('x' * (10 << 20)); print('the end')")
    assert len(outcome.output) <= 64 * 1024
    assert outcome.output.endswith("the end\n")
    assert confined("import os; os.symlink('/etc/passwd', result)").result == b""
    assert confined("import os; os.mkfifo(result)").result == b""
