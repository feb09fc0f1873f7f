"""The whole stack: up, healed after every kind of kill, ended without a trace."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from slipway_stack import lifecycle
from slipway_stack.airflow_api import AirflowClient, AirflowError, Run
from slipway_stack.console import Console
from slipway_stack.errors import StackError
from slipway_stack.leftovers import Group
from slipway_stack.ports import pick_free
from slipway_stack.settings import CHECKOUT, PORT_VARIABLES, Stack
from slipway_stack.supervisor import Supervisor
from tests.stack.running import RunningStack, running_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    with running_stack() as running:
        yield running


def session_of(stack: Stack) -> Group:
    """The session that all processes of a stack are in."""
    group = Group.noted(stack.run / "airflow-scheduler.group")
    assert group
    return group


def wait_until_well(stack: Stack, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not all((lifecycle.well(stack) or {"supervisor": False}).values()):
        assert time.monotonic() < deadline, lifecycle.well(stack)
        time.sleep(0.5)


def score_until_answered(url: str, seconds: float = 60) -> None:
    """Wait for the demo's endpoint to answer; a host that was killed brings it back by itself."""
    sample = (CHECKOUT / "include/model_bundles/breast-cancer/model_bundle/sample_input.json").read_bytes()
    deadline = time.monotonic() + seconds
    while (response := httpx.post(url, content=sample, headers={"Content-Type": "application/json"})).is_error:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.5)
    assert response.json()["predictions"][2]["diagnosis"] == "malignant"


def pids(stack: Stack) -> dict[str, int]:
    return {name: info["pid"] for name, info in Supervisor(stack).states().items()}


def command_line(command: str, stack: Stack, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command as `make` runs it, for this stack."""
    environment = {**os.environ, "SLIPWAY_HOME": str(stack.home), **variables}
    packages = [Path(lifecycle.__file__).parents[1], CHECKOUT / "plugins"]
    return subprocess.run(
        [sys.executable, "-m", "slipway_stack", command],
        env={**environment, "PYTHONPATH": os.pathsep.join(map(str, packages))},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_airflow_takes_the_generated_password_and_no_other(stack: RunningStack) -> None:
    assert "deploy_mlflow" in stack.airflow.dag_ids()
    assert stack.airflow.import_errors() == {}
    stranger = AirflowClient(stack.airflow_url, "admin", "guess")
    with stranger, pytest.raises(AirflowError, match="Airflow refuses the login of 'admin'"):
        stranger.dag_ids()


def test_actions_triggered_at_the_same_moment_do_not_block_each_other(stack: RunningStack) -> None:
    """Without what airflow_api_server.py does, SQLite's writers wait for each other until some of them fail."""
    dag = "/dags/undeploy_mlflow"
    stack.airflow.request("PATCH", dag, json={"is_paused": True})  # triggered runs wait, and are deleted below
    conf = {"model": "nobody", "endpoint": "nobody"}

    def trigger(_: int) -> list[Run]:
        with lifecycle.client(stack.stack) as client:
            return [client.trigger("undeploy_mlflow", conf) for _ in range(3)]

    with ThreadPoolExecutor(6) as threads:
        runs = [run for made in threads.map(trigger, range(6)) for run in made]
    assert len({run.run_id for run in runs}) == 18
    for run in runs:
        stack.airflow.request("DELETE", run.path)
    stack.airflow.request("PATCH", dag, json={"is_paused": False})


def test_no_key_is_on_a_command_line_or_in_a_readable_file(stack: RunningStack) -> None:
    secrets = {secret.encode() for secret in vars(stack.keys).values()}
    for pid in session_of(stack.stack).members(whole_session=True):
        shown = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert not [secret for secret in secrets if secret in shown]
    for path in stack.stack.home.rglob("*"):
        readable_by_others = path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077
        if readable_by_others and path.stat().st_size < 2**20:
            assert not [secret for secret in secrets if secret in path.read_bytes()], path
    assert stat.S_IMODE(stack.stack.run.stat().st_mode) == 0o700


def test_up_again_is_quick_and_changes_nothing(stack: RunningStack) -> None:
    before = pids(stack.stack)
    began = time.monotonic()
    lifecycle.up(stack.stack, Console())
    assert time.monotonic() - began < 5
    assert pids(stack.stack) == before


def test_another_port_for_a_stack_that_runs_is_refused(stack: RunningStack) -> None:
    done = command_line("up", stack.stack, SLIPWAY_AIRFLOW_PORT="18099")
    assert done.returncode == 1
    assert f"runs with SLIPWAY_AIRFLOW_PORT={stack.stack.ports['airflow']}: run `make stop` first" in done.stderr


def test_a_port_in_use_is_told_with_its_holder_and_the_variable(stack: RunningStack, tmp_path: Path) -> None:
    port = str(stack.stack.ports["mlflow"])
    elsewhere = Stack(tmp_path / "second", stack.stack.ports)
    free = {variable: str(40000 + i) for i, (variable, _) in enumerate(PORT_VARIABLES.values())}
    done = command_line("up", elsewhere, **{**free, "SLIPWAY_MLFLOW_PORT": port})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"slipway: Port {port} is in use by python")
    assert f"(pid {pids(stack.stack)['mlflow']})" in last
    assert last.endswith("or set SLIPWAY_MLFLOW_PORT to a free port.")
    assert not Supervisor(elsewhere).is_running()


def test_status_tells_how_the_stack_is(stack: RunningStack, tmp_path: Path) -> None:
    done = command_line("status", stack.stack)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["healthy"] * 6
    assert command_line("status", Stack(tmp_path, {})).returncode == 3


@pytest.mark.requires("curl")
def test_the_demo_goes_from_zip_to_endpoint_and_a_second_one_changes_nothing(stack: RunningStack) -> None:
    done = command_line("demo", stack.stack)
    assert done.returncode == 0, done.stderr
    url = f"{stack.model_host_url}/endpoints/breast-cancer"
    assert f"Endpoint   {url}" in done.stdout
    assert f"curl -sS -X POST {url}/invocations" in done.stdout
    assert f"URL = '{url}/invocations'" in done.stdout
    assert f"login admin, password {stack.keys.password}" in done.stdout
    for language in ("curl", "Python"):
        [line] = [line for line in done.stdout.splitlines() if f"✓ the {language} sample gives " in line]
        predictions = json.loads(line.partition(" gives ")[2])
        assert [row["diagnosis"] for row in predictions] == ["benign", "benign", "malignant"]

    made = {dag: stack.airflow.runs(dag) for dag in ("import_bundle", "register_model", "deploy_mlflow")}
    assert [len(runs) for runs in made.values()] == [1, 1, 1]
    again = command_line("demo", stack.stack, AIRFLOW_VAR_NEW="1")
    assert "breast-cancer is deployed already, as version 1" in again.stdout, again.stderr
    assert "It runs without this shell's AIRFLOW_VAR_NEW: `make stop demo`" in again.stdout
    assert {dag: stack.airflow.runs(dag) for dag in made} == made


def test_a_full_disk_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_FREE_BYTES", 2**70)
    ports = dict(zip(PORT_VARIABLES, pick_free(len(PORT_VARIABLES)), strict=True))
    with pytest.raises(StackError, match=r"is on a disk with [\d.]+ GB free, and the stack needs .* set SLIPWAY_HOME"):
        lifecycle.up(Stack(tmp_path, ports), Console())
    assert not Supervisor(Stack(tmp_path, ports)).is_running()


def test_every_process_is_back_after_kill_9_and_its_children_are_gone(stack: RunningStack) -> None:
    before = pids(stack.stack)
    children = set(session_of(stack.stack).members(whole_session=True)) - set(before.values())
    supervisor = int((stack.stack.run / "supervisor.pid").read_text())
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    time.sleep(2)
    wait_until_well(stack.stack)
    score_until_answered(f"{stack.model_host_url}/endpoints/breast-cancer/invocations")
    after = set(session_of(stack.stack).members(whole_session=True))
    assert after & (set(before.values()) | children) == {supervisor}


def test_up_heals_a_stack_whose_supervisor_was_killed(stack: RunningStack) -> None:
    orphans = set(pids(stack.stack).values())
    os.kill(int((stack.stack.run / "supervisor.pid").read_text()), signal.SIGKILL)
    lifecycle.up(stack.stack, Console())
    assert all((lifecycle.well(stack.stack) or {}).values())
    assert not orphans & set(pids(stack.stack).values())


def test_a_process_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    told = r"^model-host keeps ending: its log is .*/model-host\.log\.$"
    with pytest.raises(StackError, match=told), running_stack({"MODEL_HOST_LEASE_SECONDS": "soon"}):
        pass


def test_stop_ends_everything(stack: RunningStack) -> None:
    group = session_of(stack.stack)
    assert group.members(whole_session=True)
    assert lifecycle.stop(stack.stack)
    assert group.members(whole_session=True) == []
    assert not lifecycle.stop(stack.stack)
    assert lifecycle.well(stack.stack) is None
