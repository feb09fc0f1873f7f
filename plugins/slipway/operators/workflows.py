"""The steps of a score workflow: resolve what is asked, score with Spark, publish what came of it, tell people."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.context import Context
from airflow.sdk.exceptions import AirflowSkipException

from slipway.assets import MODEL_VERSION, SCORES
from slipway.errors import UserError
from slipway.hooks.mlflow import MlflowHook
from slipway.links import SparkApplicationLink
from slipway.operators.base import ERROR_KEY, SlipwayOperator
from slipway.registry import Registry
from slipway.workflows import catalog, planning, request
from slipway.workflows.definition import Definition, ScoreNode

if TYPE_CHECKING:
    from slipway.hooks.spark import SparkJobHook

__all__ = ["NotifyOperator", "PublishScoresOperator", "ResolveWorkflowOperator", "ScoreOperator"]

_CHAMPION = "champion"
_SKIPPED = "skipped"


class ResolveWorkflowOperator(SlipwayOperator):
    """Check a request against the workflow's definition and the registry, and return the plan for Spark.

    Returns `plan` (see `slipway_spark.plan`), `spark_config`, `lib_jars`, `models` and `emails`. No password is in it.

    :param workflow_id: number of the workflow.
    :param program_parameters: the workflow's parameters, as `--name value` or JSON.
    :param spark_config: Spark settings.
    :param lib_jars: jars for Spark.
    :param mail_on_success: addresses.
    :param mail_on_failure: addresses.
    :param scheduled: the parameters are those of the definition's schedule, with the run's data interval.
    """

    template_fields: Sequence[str] = (
        "workflow_id",
        "program_parameters",
        "spark_config",
        "lib_jars",
        "mail_on_success",
        "mail_on_failure",
    )

    def __init__(
        self,
        *,
        workflow_id: Any,
        program_parameters: Any = None,
        spark_config: Any = None,
        lib_jars: Any = None,
        mail_on_success: Any = None,
        mail_on_failure: Any = None,
        scheduled: bool = False,
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.workflow_id = workflow_id
        self.program_parameters = program_parameters
        self.spark_config = spark_config
        self.lib_jars = lib_jars
        self.mail_on_success = mail_on_success
        self.mail_on_failure = mail_on_failure
        self.scheduled = scheduled
        self.mlflow_conn_id = mlflow_conn_id

    def run(self, context: Context) -> dict[str, Any]:
        """Return the plan.

        :raises UserError: if there is no such workflow or model, or a field of the request is wrong.
        """
        # First, because whoever is to hear of a failure is to hear of the next lines', too.
        on_failure = request.parse_emails("emailOnFailure", self.mail_on_failure)
        context["ti"].xcom_push("email_on_failure", on_failure)
        definition, file = catalog.load().find(int(self.workflow_id))
        context["ti"].xcom_push("workflow", definition.name)
        on_success = request.parse_emails("emailOnSuccess", self.mail_on_success)
        context["ti"].xcom_push("email_on_success", on_success)
        checked = request.check(
            definition,
            {
                "programParameters": self._parameters(context, definition),
                "sparkConfig": self.spark_config,
                "libJars": self.lib_jars,
            },
        )
        nodes = planning.nodes_of(definition, file, checked.values)
        self._skip_other_models(context, definition)
        models = self._models(definition, nodes)
        return {
            "plan": {
                "execution": execution_of(context),
                "workflow": definition.name,
                "nodes": [{k: v for k, v in node.items() if k not in {"version", "alias"}} for node in nodes],
                "parameters": checked.values,
                "rejects": planning.rejects_of(definition),
            },
            "models": models,
            "spark_config": checked.spark_config,
            "lib_jars": checked.lib_jars,
        }

    def _parameters(self, context: Context, definition: Definition) -> str | None:
        if not self.scheduled or definition.schedule is None:
            text: str | None = self.program_parameters
            return text
        given: dict[str, Any] = dict(definition.schedule.parameters)
        bounds = _interval(context, definition.schedule.cron)
        types = {parameter.name: parameter.type for parameter in definition.parameters}
        for name, bound in definition.schedule.interval.items():
            moment = bounds[bound]
            given[name] = moment.date() if types[name] == "date" else moment
        return json.dumps(given, default=lambda value: value.isoformat())

    def _models(self, definition: Definition, nodes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """For each score node: the version, and what its signature says of columns."""
        registry = Registry(MlflowHook(self.mlflow_conn_id))
        scores = {node.id: node for node in definition.nodes if isinstance(node, ScoreNode)}
        models = {}
        for node in nodes:
            if node["id"] not in scores:
                continue
            version = registry.resolve(node["model"], node["version"], node["alias"])
            manifest = registry.manifest(version)
            label = f"Model {version.name} version {version.version}"
            inputs, outputs, names = planning.columns_of(scores[node["id"]], label, manifest.signature)
            node["names"] = names
            models[node["id"]] = {
                "model": version.name,
                "version": version.version,
                "label": label,
                "python": manifest.python,
                "lock_digest": manifest.lock_digest,
                "inputs": inputs,
                "outputs": outputs,
            }
            self.log.info("Node '%s' scores with version %s of model '%s'.", node["id"], version.version, version.name)
        return models

    def _skip_other_models(self, context: Context, definition: Definition) -> None:
        """A run that the registration of some version started goes on only for a champion of this workflow."""
        events = [e for events in (context.get("triggering_asset_events") or {}).values() for e in events]
        if not events:
            return
        moved = {e.extra.get("model") for e in events if e.extra.get("alias") == _CHAMPION}
        if not moved & definition.models:
            context["ti"].xcom_push(_SKIPPED, True)
            raise AirflowSkipException(f"The champion of no model of this workflow has moved ({MODEL_VERSION.name}).")


class ScoreOperator(SlipwayOperator):
    """Run the plan with Spark, following it in the log; cancelling the task stops Spark.

    Returns what the job says: `counts`, `outputs`, `rejects`, `seconds`, `application`, `ui`.

    :param resolved: what `ResolveWorkflowOperator` returned.
    :param conn_id: the Spark connection.
    """

    template_fields: Sequence[str] = ("resolved",)
    operator_extra_links = (SparkApplicationLink(),)

    def __init__(
        self,
        *,
        resolved: Any,
        conn_id: str = "spark_default",
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resolved = resolved
        self.conn_id = conn_id
        self.mlflow_conn_id = mlflow_conn_id
        self._hook: SparkJobHook | None = None

    def run(self, context: Context) -> dict[str, Any]:
        """Return what Spark made.

        :raises UserError: if the definition, the data or the model is wrong.
        """
        from slipway.hooks.spark import SparkJobHook
        from slipway.workflows import shipping

        self._hook = hook = SparkJobHook(self.conn_id)
        plan = {**self.resolved["plan"], "attempt": uuid.uuid4().hex}
        plan["nodes"] = [self._with_credentials(node) for node in plan["nodes"]]
        code = None if hook.shares_files else shipping.code_archive()
        archives: dict[str, Any] = {}
        plan["models"] = {
            node: self._use(use, hook.shares_files, code.name if code else None, archives)
            for node, use in self.resolved["models"].items()
        }

        def announce(known: dict[str, Any]) -> None:
            context["ti"].xcom_push("spark_application", known["application"])
            if known["ui"]:
                SparkApplicationLink.persist(context, known["ui"])

        result = hook.run(
            plan,
            conf=self.resolved["spark_config"],
            jars=self.resolved["lib_jars"],
            archives=archives,
            code=code,
            announce=announce,
        )
        self.log.info("%s", _summary(result))
        return {key: value for key, value in result.items() if key != "ok"}

    def on_kill(self) -> None:
        """Stop Spark."""
        if self._hook is not None:
            self._hook.on_kill()

    def _use(self, use: dict[str, Any], in_place: bool, code: str | None, archives: dict[str, Any]) -> dict[str, Any]:
        """Where executors find a model: on this machine, or in the archives that this adds to `archives`."""
        from slipway import settings
        from slipway.workflows import shipping

        hook = MlflowHook(self.mlflow_conn_id)
        version = hook.get_version(use["model"], use["version"])
        model = shipping.model_files(hook, version)
        environment = shipping.environment_of(model, use["label"])
        place = {
            "label": use["label"],
            "python": use["python"],
            "inputs": use["inputs"],
            "outputs": use["outputs"],
        }
        if in_place:
            homes = [str(settings.scoring_home()), str(settings.spark_home())]
            return {**place, "model": str(model), "environment": str(environment), "code": homes}
        packages = environment / "lib" / f"python{use['python']}" / "site-packages"
        names = {"model": model.name, "environment": f"env-{environment.name[:16]}"}
        archives[names["model"]] = shipping.packed(model, names["model"])
        archives[names["environment"]] = shipping.packed(packages, names["environment"])
        return {**place, **names, "code": [code]}

    def _with_credentials(self, node: dict[str, Any]) -> dict[str, Any]:
        """Put user and password of a node's connection where Spark's JDBC source looks for them."""
        node = dict(node)  # what was resolved stays as it is: the password goes into the plan's file and nowhere else
        conn_id = node.pop("connection", None)
        if conn_id is None:
            return node
        from airflow.sdk import BaseHook

        try:
            connection = BaseHook.get_connection(conn_id)
        except Exception as e:
            if type(e).__name__ != "AirflowNotFoundException":
                raise
            raise UserError(f"Connection '{conn_id}' of node '{node['id']}' does not exist: create it.") from None
        given = {"user": connection.login, "password": connection.password}
        return {**node, "options": {**node["options"], **{k: v for k, v in given.items() if v}}}


class PublishScoresOperator(SlipwayOperator):
    """Tell Airflow what was scored: as XCom for callers, and as an asset event that other DAGs may wait for.

    :param resolved: what `ResolveWorkflowOperator` returned.
    :param scored: what `ScoreOperator` returned.
    """

    template_fields: Sequence[str] = ("resolved", "scored")

    def __init__(self, *, resolved: Any, scored: Any, **kwargs: Any) -> None:
        super().__init__(outlets=[SCORES], **kwargs)
        self.resolved = resolved
        self.scored = scored

    def run(self, context: Context) -> dict[str, Any]:
        """Return `execution`, `workflow`, `models`, `counts`, `outputs`, `rejects` and `seconds`."""
        keys = ("execution", "workflow", "models", "counts", "outputs", "rejects", "seconds")
        result = {key: self.scored[key] for key in keys}
        context["outlet_events"][SCORES].extra = {**result, "rejects": (result["rejects"] or {}).get("path")}
        return result


class NotifyOperator(SlipwayOperator):
    """Send the mail about the run, if anybody asked for one, and end as the run has ended.

    A mail that cannot be sent fails nothing. As a teardown that counts (`on_failure_fail_dagrun`) this runs whatever
    came before, a cancel too, and its own state is the run's: else a cancelled run, whose last steps Airflow marks as
    skipped, would be taken for a success.

    :param smtp_conn_id: connection of the smtp provider; its extra `from_email` is the sender.
    """

    def __init__(self, *, smtp_conn_id: str = "smtp_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.smtp_conn_id = smtp_conn_id

    def run(self, context: Context) -> dict[str, Any]:
        """Return to whom a mail went, and why to nobody if it did not.

        :raises UserError: if the run has failed: there is nothing more to do, and nothing to try again.
        """
        ti = context["ti"]
        if ti.xcom_pull(task_ids="resolve", key=_SKIPPED):
            return {"sent": [], "reason": "there was nothing to do"}
        result = ti.xcom_pull(task_ids="publish")
        kind = "success" if result else "failure"
        sent = self._tell(context, kind, result)
        if not result:
            raise UserError(f"The run has failed. {self._error(ti)}")
        return sent

    def _tell(self, context: Context, kind: str, result: dict[str, Any] | None) -> dict[str, Any]:
        ti = context["ti"]
        to = ti.xcom_pull(task_ids="resolve", key=f"email_on_{kind}") or []
        if not to:
            return {"sent": [], "reason": "nobody asked for one"}
        facts = {
            # Without a name when there was no such workflow.
            "workflow": ti.xcom_pull(task_ids="resolve", key="workflow") or context["dag"].dag_id,
            "execution": execution_of(context),
            "link": _run_page(context),
            "error": self._error(ti) if kind == "failure" else None,
            **(result or {}),
        }
        try:
            self._send(kind, to, facts)
        except Exception as e:  # noqa: BLE001  # whatever a mail server does, the scoring is done
            self.log.warning("The mail to %s was not sent (%s: %s).", ", ".join(to), type(e).__name__, e)
            return {"sent": [], "reason": f"{type(e).__name__}: {e}"}
        return {"sent": to, "reason": None}

    def _send(self, kind: str, to: list[str], facts: dict[str, Any]) -> None:
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        from slipway.workflows.message import compose

        with SmtpHook(self.smtp_conn_id) as hook:
            sender = hook.from_email or hook.smtp_user or "slipway@localhost"
            message = compose(kind, to, sender, facts)
            # The provider's `send_email_smtp` has no place for a text version, so its client is used as it is.
            client = hook._smtp_client
            assert client is not None  # noqa: S101  # `with` connected it
            client.send_message(message)

    def _error(self, ti: Any) -> str:
        for task in ("score", "resolve"):
            sentence = ti.xcom_pull(task_ids=task, key=ERROR_KEY)
            if sentence:
                return str(sentence)
        return "The run was stopped, or a task of it died: see its log."


def _interval(context: Context, cron: str) -> dict[str, datetime]:
    """The run's data interval; for a run that a champion started, the last one that is over."""
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if start is not None and end is not None and start != end:
        return {"start": start, "end": end}
    from croniter import croniter

    past = croniter(cron, context["dag_run"].run_after.astimezone(UTC))
    end = past.get_prev(datetime)
    return {"start": past.get_prev(datetime), "end": end}


def execution_of(context: Context) -> str:
    """Return the execution's id: the run's for `score_workflow`, with the DAG before it for a scheduled workflow."""
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    return run_id if dag_id == "score_workflow" else f"{dag_id}:{run_id}"


def _run_page(context: Context) -> str:
    from urllib.parse import quote

    from airflow.sdk.configuration import conf

    base = conf.get("api", "base_url", fallback="").rstrip("/")
    return f"{base}/dags/{context['dag'].dag_id}/runs/{quote(context['run_id'], safe='')}"


def _summary(result: dict[str, Any]) -> str:
    counts = result["counts"]
    return (
        f"{counts['in']:,} rows in, {counts['scored']:,} scored, {counts['rejected']:,} rejected, "
        f"{counts['written']:,} written in {result['seconds']} s."
    )
