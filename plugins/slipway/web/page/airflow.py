"""What the pages ask of Airflow, as the looking user: which of our DAGs there are, and their runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from slipway.bundles.source import default_name
from slipway.web.core import AirflowRefusal, CoreApi, Paused, paused

__all__ = ["ACTIONS", "TARGETS", "Airflow", "Dag", "Run", "Runs", "busy"]

TARGETS = {
    "mlflow": "MLflow",
    "docker": "Docker",
    "kubernetes": "Kubernetes",
    "sagemaker": "SageMaker",
    "azureml": "AzureML",
}
ACTIONS = (
    "import_bundle",
    "register_model",
    "set_alias",
    "build_and_push_image",
    *(f"deploy_{target}" for target in TARGETS),
    *(f"undeploy_{target}" for target in TARGETS),
)
_ACTIVE = frozenset({"queued", "running"})
_RECENT = 200


@dataclass(frozen=True)
class Dag:
    """One of our DAGs, as far as a menu needs it."""

    id: str
    name: str
    paused: bool
    may_run: bool = True

    @property
    def refusal(self) -> str:
        """Why nobody, or not this user, can run it now; empty if it can be run."""
        if not self.may_run:
            return "Your role in Airflow may look, but not run this."
        return paused(self.id) if self.paused else ""


@dataclass(frozen=True)
class Run:
    """One run of one of our DAGs."""

    dag_id: str
    run_id: str
    title: str  # the DAG's display name
    state: str
    conf: dict[str, Any]
    user: str | None
    manual: bool  # somebody started it; else a schedule, a backfill or an asset did, for a data interval
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    note: str | None = None

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Run:
        """Read a run as Airflow's API describes it."""
        return cls(
            dag_id=raw["dag_id"],
            run_id=raw["dag_run_id"],
            title=raw.get("dag_display_name") or raw["dag_id"],
            state=str(raw["state"]),
            conf=raw.get("conf") or {},
            user=raw.get("triggering_user_name"),
            manual=raw.get("run_type", "manual") == "manual",
            queued_at=_time(raw.get("queued_at")),
            started_at=_time(raw.get("start_date")),
            ended_at=_time(raw.get("end_date")),
            note=raw.get("note"),
        )

    @property
    def active(self) -> bool:
        """Whether it is not over yet."""
        return self.state in _ACTIVE

    @property
    def model(self) -> str | None:
        """The model that it is about, where its params say so."""
        found = self.conf.get("model") or self.conf.get("name")
        if not found and self.dag_id == "import_bundle":
            # A bundle.yaml may name it otherwise; nobody knows before the import has read it.
            found = default_name(str(self.conf.get("bundle_uri") or ""))
        return str(found) if found else None


@dataclass(frozen=True)
class Runs:
    """The runs of our actions that the pages know of: the newest, and every one that is not over."""

    newest_first: tuple[Run, ...]

    def of(self, model: str) -> list[Run]:
        """Return the runs about a model, newest first."""
        return [run for run in self.newest_first if run.model == model]

    def active(self) -> dict[str, Run]:
        """Return a run that is not over for each model that has one."""
        return {run.model: run for run in reversed(self.newest_first) if run.active and run.model}

    def failed(self) -> dict[str, Run]:
        """Return the last run of each model whose last run failed."""
        last: dict[str, Run] = {}
        for run in self.newest_first:
            if run.model:
                last.setdefault(run.model, run)
        return {model: run for model, run in last.items() if run.state == "failed"}


def busy(run: Run) -> str:
    """Say that nothing can be started because a run is not over."""
    return f"'{run.title}' is {run.state} for this model: wait for its end."


class Airflow(CoreApi):
    """Airflow's REST API, with what the pages need besides the façade's calls."""

    async def dags(self) -> dict[str, Dag]:
        """Return those of our DAGs that are there and that the user may see, by id."""
        found = await self._call("GET", "/dags", params={"tags": "slipway", "limit": 100, "order_by": "dag_id"})
        return {d["dag_id"]: Dag(d["dag_id"], d["dag_display_name"], bool(d["is_paused"])) for d in found["dags"]}

    async def params(self, dag_id: str) -> dict[str, dict[str, Any]]:
        """Return a DAG's params: for each its default `value`, its JSON `schema` and its `description`."""
        details = await self._call("GET", f"/dags/{quote(dag_id, safe='')}/details")
        return dict(details["params"] or {})

    async def steps(self, dag_id: str) -> list[str]:
        """Return the ids of a DAG's tasks, each after those that it waits for."""
        found = await self._call("GET", f"/dags/{quote(dag_id, safe='')}/tasks")
        after = {task["task_id"]: set[str]() for task in found["tasks"]}
        for task in found["tasks"]:
            for later in task["downstream_task_ids"]:
                after[later].add(task["task_id"])
        ordered: list[str] = []
        while after:
            free = [name for name, earlier in after.items() if earlier <= set(ordered)]
            ordered += free
            for name in free:
                del after[name]
        return ordered

    async def runs(self, dag_ids: Iterable[str] = ACTIONS) -> Runs:
        """Return the newest runs of some DAGs and all that are not over, in two calls."""
        wanted = list(dag_ids)
        newest, active = await asyncio.gather(self._runs(wanted), self._runs(wanted, sorted(_ACTIVE)))
        known = {(run.dag_id, run.run_id) for run in newest}
        return Runs((*(run for run in active if (run.dag_id, run.run_id) not in known), *newest))

    async def one(self, dag_id: str, run_id: str) -> Run | None:
        """Return a run, or None if there is none."""
        try:
            return Run.of(await self.run(dag_id, run_id))
        except AirflowRefusal as e:
            if e.status == 404:
                return None
            raise

    async def start(self, dag_id: str, subject: str, conf: dict[str, Any]) -> str:
        """Trigger a DAG and return the run's id, `<subject>-<number>`.

        The number counts the runs of that subject, so of two who start the same action in the same moment the second
        is refused by Airflow itself.

        :raises AirflowRefusal: 409 if somebody else was first.
        """
        query = {"run_id_prefix_pattern": f"{subject}-", "limit": 1, "order_by": "-id"}
        found = await self._call("GET", f"/dags/{quote(dag_id, safe='')}/dagRuns", params=query)
        number = int(found["total_entries"] or 0) + 1
        while True:
            run_id = f"{subject}-{number}"
            try:
                await self.trigger(dag_id, run_id, conf)
            except Paused:
                raise
            except AirflowRefusal as e:
                if e.status != 409:
                    raise
                taken = await self.one(dag_id, run_id)
                if taken is None or taken.active:
                    raise AirflowRefusal(
                        409, f"Somebody else has started this action for '{subject}' just now: see its run below."
                    ) from None
                number += 1  # runs before it were deleted, so that there are more numbers than runs
            else:
                return run_id

    async def start_alone(self, dag_id: str, model: str, conf: dict[str, Any]) -> str:
        """Trigger a DAG about a model as `start` does, unless another run about it is not over; return the run's id.

        Who starts looks before and after. Of two who start different actions in the same moment, on different API
        servers, at least the one whose run came second sees the other's, and withdraws.

        :raises AirflowRefusal: 409 if there is another one.
        """
        await self._refuse_beside(model)
        run_id = await self.start(dag_id, model, conf)
        try:
            await self._refuse_beside(model, (dag_id, run_id))
        except AirflowRefusal:
            await self._withdraw(dag_id, run_id)
            raise
        return run_id

    async def again(self, dag_id: str, run_id: str) -> None:
        """Let a run that is over begin anew, with the data interval and the params that it had.

        :raises Paused: if the DAG is.
        """
        await self.refuse_paused(dag_id)
        path = f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}/clear"
        await self._call("POST", path, json={"dry_run": False, "only_failed": False})

    async def _refuse_beside(self, model: str, own: tuple[str, str] | None = None) -> None:
        for run in (await self.runs()).of(model):
            if run.active and (run.dag_id, run.run_id) != own:
                raise AirflowRefusal(409, busy(run))

    async def _withdraw(self, dag_id: str, run_id: str) -> None:
        try:
            await self._call("DELETE", f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}")
        except AirflowRefusal:  # it runs already, or this user may delete none
            await self.cancel(dag_id, run_id, "Withdrawn: another action of the model was started in the same moment.")

    async def _runs(self, dag_ids: list[str], states: list[str] | None = None) -> list[Run]:
        body: dict[str, Any] = {"dag_ids": dag_ids, "page_limit": _RECENT, "order_by": "-run_after"}
        if states:
            body["states"] = states
        found = await self._call("POST", "/dags/~/dagRuns/list", json=body)
        return [Run.of(raw) for raw in found["dag_runs"]]


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
