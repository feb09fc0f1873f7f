"""Run the Spark job of a score workflow where the Spark connection says: spark-submit, or a Spark Connect server.

The apache-spark provider's hooks know the masters, the queues and how to kill a driver; this adds what they lack: a
scrubbed environment, progress, an answer, and one connection that may be of either kind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowException

from slipway import settings
from slipway.errors import SlipwayError, Unavailable, UserError

__all__ = ["SparkJobHook"]

_MARK = "SLIPWAY-APPLICATION "
_EMBEDDED = "local[*]"
_KILL_AFTER_SECONDS = 15.0
# What a driver may need of this process's environment. Airflow's keys and connections are not for user code.
_PASSED = ("PATH", "HOME", "TMPDIR", "LANG", "TZ", "USER", "KRB5CCNAME", "KUBECONFIG")
_PASSED_PREFIXES = ("LC_", "SPARK_", "HADOOP_", "YARN_", "JAVA_", "PYSPARK_")

_CONF = {
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "WARN",
    # Rows a batch to a model: larger ones spread the cost of a call, smaller ones that of memory.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "16384",
    # Whether a row of text fits its schema must not depend on which columns a query happens to use.
    "spark.sql.csv.parser.columnPruning.enabled": "false",
}
_LOCAL_CONF = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "8",
}

Announce = Callable[[dict[str, Any]], None]


class SparkJobHook(BaseHook):
    """The Spark of a connection.

    :param conn_id: connection of type `spark` (master in its host: `local[*]`, `spark://…`, `yarn`, `k8s://…`) or
        `spark_connect` (or a host `sc://…`). Extra `shared_files: true` says that executors see this machine's files;
        `python` is the executors' Python.
    """

    def __init__(self, conn_id: str = "spark_default") -> None:
        super().__init__()
        self.conn_id = conn_id
        self.connection = self._find()
        self._running: subprocess.Popen[str] | _Submit | None = None

    def _find(self) -> Connection:
        try:
            return self.get_connection(self.conn_id)
        except Exception as e:
            if type(e).__name__ != "AirflowNotFoundException":
                raise
            return Connection(conn_id=self.conn_id, conn_type="spark", host=_EMBEDDED)

    @property
    def master(self) -> str:
        """Where Spark runs, such as `local[*]` or `sc://host:15002`."""
        connection = self.connection
        host = connection.host or ""
        if connection.conn_type == "spark_connect" and "://" not in host:
            host = f"sc://{host}"
        elif connection.conn_type == "spark" and "://" not in host and connection.port:
            host = f"spark://{host}"
        return f"{host}:{connection.port}" if connection.port else host or _EMBEDDED

    @property
    def is_remote_session(self) -> bool:
        """Whether a Spark Connect server runs the job."""
        return self.master.startswith("sc://")

    @property
    def shares_files(self) -> bool:
        """Whether executors read models and environments where they lie on this machine."""
        extra = self.connection.extra_dejson.get("shared_files")
        if extra is not None:
            return str(extra).lower() == "true"
        if self.is_remote_session:
            return urlsplit(self.master).hostname in {"127.0.0.1", "localhost", "::1"}
        return self.master.startswith("local")

    def run(
        self,
        plan: dict[str, Any],
        *,
        conf: dict[str, str],
        jars: list[str],
        archives: dict[str, Path],
        code: Path | None,
        announce: Announce,
    ) -> dict[str, Any]:
        """Run a plan to its end and return what the job says of it.

        :param conf: Spark settings, already checked.
        :param jars: jars for driver and executors.
        :param archives: what executors must be sent, by the name that they find it under.
        :param code: zip of the packages that executors must be sent.
        :param announce: told the application's id and the address of its pages.
        :raises UserError: if the definition, the data or the model is wrong.
        :raises Unavailable: if Spark failed for a reason that may pass.
        """
        named = [f"{path}#{name}" for name, path in archives.items()]
        if self.connection.extra_dejson.get("deploy-mode") == "cluster":
            raise UserError(
                f"Connection '{self.conn_id}' says deploy-mode cluster: a score workflow's driver runs beside its "
                "Airflow task, so set it to client."
            )
        with tempfile.TemporaryDirectory(prefix="slipway-job-") as folder:
            result = Path(folder) / "result.json"
            written = Path(folder) / "plan.json"
            remote = self._remote(plan, conf, jars, named, code) if self.is_remote_session else {}
            # Nobody else reads it: it may hold the password of a database.
            written.touch(mode=0o600)
            written.write_text(json.dumps({**plan, "owner": os.getpid(), **remote}))
            arguments = ["--plan", str(written), "--result", str(result)]
            try:
                if self.is_remote_session:
                    self._run_client(arguments, announce)
                else:
                    self._submit(self._submitter(plan["execution"], arguments, conf, jars, named, code), announce)
            except AirflowException as e:
                if not result.is_file():
                    line = " ".join(str(e).split())[-300:]
                    raise Unavailable(f"Spark ended without a result: see the task's log ({line}).") from None
            if not result.is_file():
                raise Unavailable("Spark ended without a result: it was stopped, or ran out of memory; see the log.")
            return _answer(json.loads(result.read_bytes()))

    def on_kill(self) -> None:
        """Stop Spark; called by the operator's `on_kill`."""
        running = self._running
        if isinstance(running, _Submit):
            running.stop()
        elif running is not None:
            _stop(running)

    def _remote(
        self, plan: dict[str, Any], conf: dict[str, str], jars: list[str], archives: list[str], code: Path | None
    ) -> dict[str, Any]:
        if jars:
            raise UserError("libJars cannot be given to a running Spark Connect server: have them put on the server.")
        from airflow.providers.apache.spark.hooks.spark_connect import SparkConnectHook

        session = {name: value for name, value in _CONF.items() if name.startswith("spark.sql.")}
        return {
            "remote": SparkConnectHook(self.conn_id).get_connection_url(),
            "conf": {**session, **conf},
            "archives": archives,
            "python_files": [str(code)] if code else [],
            "execution": plan["execution"],
        }

    def _run_client(self, arguments: list[str], announce: Announce) -> None:
        command = [sys.executable, "-m", "slipway_spark", *arguments]
        process = subprocess.Popen(
            command, env=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._running = process
        assert process.stdout is not None  # noqa: S101  # a pipe
        for line in self._lines(process.stdout, announce):
            self.log.info("%s", line.rstrip())
        process.wait()
        self._running = None

    def _submit(self, hook: _Submit, announce: Announce) -> None:
        hook.lines = lambda lines: self._lines(lines, announce)
        self._running = hook
        hook.submit(str(settings.spark_home() / "slipway_spark" / "__main__.py"), env=self._environment())
        self._running = None

    def _submitter(  # noqa: PLR0917
        self,
        execution: str,
        arguments: list[str],
        conf: dict[str, str],
        jars: list[str],
        archives: list[str],
        code: Path | None,
    ) -> _Submit:
        """The provider's hook, told all that spark-submit is to be."""
        local = _LOCAL_CONF if self.master.startswith("local") else {}
        hook = _Submit(
            conf={**_CONF, **local, **conf},
            conn_id=self.conn_id,
            name=f"slipway {execution}",
            application_args=arguments,
            jars=",".join(jars) or None,
            archives=",".join(archives) or None,
            py_files=str(code) if code else None,
            deploy_mode="client",
        )
        hook.master = self.master
        return hook

    def _environment(self) -> dict[str, str]:
        passed = {k: v for k, v in os.environ.items() if k in _PASSED or k.startswith(_PASSED_PREFIXES)}
        tools = str(Path(sys.executable).parent)
        executors = self.connection.extra_dejson.get("python") or (sys.executable if self.shares_files else "python3")
        return {
            **passed,
            # spark-submit stands beside the interpreter when PySpark came with it.
            "PATH": f"{tools}{os.pathsep}{passed.get('PATH', os.defpath)}",
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "PYSPARK_PYTHON": passed.get("PYSPARK_PYTHON", str(executors)),
            "PYTHONPATH": str(settings.spark_home()),
            "PYTHONUNBUFFERED": "1",
            **({"SPARK_LOCAL_IP": "127.0.0.1"} if self.master.startswith("local") else {}),
        }

    def _lines(self, lines: Iterator[str] | Any, announce: Announce) -> Iterator[str]:
        for line in lines:
            text = str(line)
            if text.startswith(_MARK):
                known = json.loads(text.removeprefix(_MARK))
                announce(known)
                yield f"Spark application {known['application']}, its pages at {known['ui']}"
            else:
                yield text


class _Submit(SparkSubmitHook):
    """The provider's hook, with its log looked through and its process ended so that Spark can clean up."""

    master: str
    lines: Callable[[Iterator[Any]], Iterator[Any]]

    def _build_spark_submit_command(self, application: str) -> list[str]:
        self._connection["master"] = self.master
        return list(super()._build_spark_submit_command(application))

    def _process_spark_submit_log(self, itr: Iterator[Any]) -> None:
        super()._process_spark_submit_log(self.lines(itr))

    def stop(self) -> None:
        """Ask the driver to end, which lets it remove its temporary files, then kill it as the provider does."""
        process = self._submit_sp
        if process is not None and process.poll() is None:
            _stop(process)
        self.on_kill()


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_KILL_AFTER_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answer(result: dict[str, Any]) -> dict[str, Any]:
    if result["ok"]:
        return result
    failure: type[SlipwayError] = Unavailable if result["retry"] else UserError
    raise failure(result["message"])
