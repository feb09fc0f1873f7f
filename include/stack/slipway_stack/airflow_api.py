"""A small client of Airflow's REST API: trigger an action, follow it, read what it answered.

Source of the protocol: https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import httpx

_OVER = frozenset({"success", "failed"})
_BAD = frozenset({"failed", "upstream_failed"})
_POLL_SECONDS = 0.3


class AirflowError(Exception):
    """Airflow refused a request, or an action failed; one sentence."""


@dataclass(frozen=True)
class Run:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    state: str

    @property
    def path(self) -> str:
        """The run's place in the API."""
        return f"/dags/{self.dag_id}/dagRuns/{self.run_id}"


@dataclass(frozen=True)
class Task:
    """One task of a run; `state` is None until it is scheduled, `try_number` counts from 1."""

    task_id: str
    state: str | None
    try_number: int


class AirflowClient:
    """Talks to one Airflow as one user.

    The login is exchanged for a token at the first request, and again when the token has run out.
    """

    def __init__(self, url: str, login: str, password: str) -> None:
        self.url = url
        self._credentials = {"username": login, "password": password}
        self._http = httpx.Client(base_url=url, timeout=60.0)
        self._token: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connections."""
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Call `/api/v2<path>` and return the JSON answer.

        Raises `AirflowError` with Airflow's own reason where it refuses, `httpx.TransportError` where it is
        not there.
        """
        response = self.raw(method, f"/api/v2{path}", **options)
        if response.is_error:
            raise AirflowError(f"Airflow answers {response.status_code} to {method} {path}: {_reason(response)}")
        return response.json() if response.content else None

    def raw(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call any path with this user's token, whatever the answer is."""
        headers = options.pop("headers", {})
        for _ in range(2):
            if self._token is None:
                self._token = self._sign_in()
            authorised = {"Authorization": f"Bearer {self._token}", **headers}
            response = self._http.request(method, path, headers=authorised, **options)
            if response.status_code != httpx.codes.UNAUTHORIZED:
                break
            self._token = None
        return response

    def health(self) -> dict[str, Any]:
        """Airflow's parts, each with its `status`; asks for no login."""
        response = self._http.get("/api/v2/monitor/health", timeout=5.0)
        response.raise_for_status()
        return dict(response.json())

    def dag_ids(self) -> set[str]:
        """The DAGs that have been parsed."""
        return {dag["dag_id"] for dag in self.request("GET", "/dags", params={"limit": 100})["dags"]}

    def import_errors(self) -> dict[str, str]:
        """What went wrong when DAG files were parsed, by file name."""
        found = self.request("GET", "/importErrors")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in found}

    def trigger(self, dag_id: str, conf: dict[str, Any], *, run_id: str | None = None) -> Run:
        """Start a run of a DAG."""
        body = {"conf": conf, "logical_date": None} | ({"dag_run_id": run_id} if run_id else {})
        return _run(self.request("POST", f"/dags/{dag_id}/dagRuns", json=body))

    def runs(self, dag_id: str, *, limit: int = 20) -> list[Run]:
        """The newest runs of a DAG, newest first."""
        query = {"order_by": "-run_after", "limit": limit}
        return [_run(raw) for raw in self.request("GET", f"/dags/{dag_id}/dagRuns", params=query)["dag_runs"]]

    def run(self, run: Run) -> Run:
        """The run as it is now."""
        return _run(self.request("GET", run.path))

    def tasks(self, run: Run) -> list[Task]:
        """The run's tasks, in the order in which they began; those that did not begin come last."""
        found = self.request("GET", f"{run.path}/taskInstances", params={"limit": 100})["task_instances"]
        found.sort(key=lambda raw: raw["start_date"] or "~")
        return [Task(raw["task_id"], raw["state"], max(raw["try_number"], 1)) for raw in found]

    def wait(self, run: Run, *, timeout: float = 600.0, follow: Callable[[list[Task]], None] | None = None) -> Run:
        """Wait until the run is over; `follow` gets its tasks at each look.

        Raises `AirflowError` if it is not over after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            current = self.run(run)
            if follow:
                follow(self.tasks(run))
            if current.state in _OVER:
                return current
            if time.monotonic() > deadline:
                raise AirflowError(f"{run.dag_id} is still {current.state} after {timeout:.0f} s: see {self.page(run)}")
            time.sleep(_POLL_SECONDS)

    def xcom(self, run: Run, task: str, key: str = "return_value") -> Any:
        """What a task returned, or what it pushed under another key."""
        return self.request("GET", f"{run.path}/taskInstances/{task}/xcomEntries/{key}")["value"]

    def task_log(self, run: Run, task: str, try_number: int | None = None) -> str:
        """A task's log as text; of its last try, unless another is asked for."""
        return "\n".join(_line(event) for event in self._log_events(run, task, try_number))

    def failure(self, run: Run) -> tuple[str, str]:
        """The task that failed first in a failed run, and the last error in its log, in one line."""
        failed = [task for task in self.tasks(run) if task.state in _BAD]
        if not failed:
            return "", "the run failed, but none of its tasks did"
        first = next((task for task in failed if task.state == "failed"), failed[0])
        return first.task_id, self._last_error(run, first)

    def page(self, run: Run) -> str:
        """The run's page in Airflow's UI."""
        return f"{self.url}/dags/{run.dag_id}/runs/{run.run_id}"

    def _last_error(self, run: Run, task: Task) -> str:
        events = [event for event in self._log_events(run, task.task_id, task.try_number) if isinstance(event, dict)]
        for event in reversed(events):
            details = event.get("error_detail") or []
            if details and details[0].get("exc_value"):
                return str(details[0]["exc_value"]).strip().splitlines()[0]
        errors = [str(event["event"]) for event in events if event.get("level") in {"error", "critical"}]
        return errors[-1].strip().splitlines()[0] if errors else "its log names no error"

    def _log_events(self, run: Run, task: str, try_number: int | None) -> list[Any]:
        if try_number is None:
            found = [one.try_number for one in self.tasks(run) if one.task_id == task]
            try_number = found[0] if found else 1
        path = f"{run.path}/taskInstances/{task}/logs/{try_number}"
        answer = self.request("GET", path, params={"full_content": True}, headers={"Accept": "application/json"})
        return list(answer["content"])

    def _sign_in(self) -> str:
        response = self._http.post("/auth/token", json=self._credentials)
        if response.is_error:
            raise AirflowError(f"Airflow refuses the login of '{self._credentials['username']}': {_reason(response)}")
        return str(response.json()["access_token"])


def _run(raw: dict[str, Any]) -> Run:
    return Run(raw["dag_id"], raw["dag_run_id"], raw["state"])


def _line(event: Any) -> str:
    if not isinstance(event, dict):
        return str(event)
    known = {"timestamp", "event", "level", "logger"}
    rest = {name: value for name, value in event.items() if name not in known and value is not None}
    parts = [event.get("timestamp"), event.get("level"), event.get("event")]
    return " ".join(str(part) for part in parts if part) + (f" {json.dumps(rest, default=str)}" if rest else "")


def _reason(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return response.text.strip()[:300] or response.reason_phrase
    return detail if isinstance(detail, str) else json.dumps(detail)
