"""What every Slipway operator does alike: one sentence on failure, and no retry of a user's mistake."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.definitions.context import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from slipway.errors import SlipwayError, UserError

__all__ = ["ERROR_KEY", "PlanOperator", "SlipwayOperator", "check_conf", "one_sentence", "run_of"]

ERROR_KEY = "error"


@contextmanager
def one_sentence(context: Context) -> Iterator[None]:
    """Translate Slipway's errors to Airflow's, and leave the sentence in XCom, where pages and clients read it.

    :raises AirflowFailException: for a user's mistake, which fails the task at once.
    :raises AirflowException: for a passing fault, which Airflow retries.
    """
    try:
        yield
    except SlipwayError as e:
        sentence = str(e)
        context["ti"].xcom_push(ERROR_KEY, sentence)
        # `from None`: the sentence says it all; a traceback of ours would only bury it in the log.
        raise (AirflowFailException if isinstance(e, UserError) else AirflowException)(sentence) from None


def run_of(context: Context) -> str:
    """Return how a run signs what it makes: in records, tags and locks."""
    return f"{context['dag'].dag_id}/{context['run_id']}"


def check_conf(dag_id: str, conf: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse a conf with a name that the DAG does not have, which Airflow itself would pass over in silence.

    :raises UserError: naming it, and what may have been meant.
    """
    known = sorted(known)
    for name in sorted(set(conf) - set(known)):
        meant = get_close_matches(name, known, 1)
        hint = f"did you mean '{meant[0]}'?" if meant else f"it takes {', '.join(known) or 'nothing'}."
        raise UserError(f"{dag_id} does not take '{name:.63}' in its conf: {hint}")


class SlipwayOperator(BaseOperator):
    """Base of the operators: subclasses write `run`."""

    def execute(self, context: Context) -> Any:
        """Run the step; see `run`. A DAG's first step also looks at the run's conf as a whole."""
        with one_sentence(context):
            dag = self.get_dag()
            if dag is not None and not self.upstream_task_ids:
                check_conf(dag.dag_id, context["dag_run"].conf or {}, dag.params)
            return self.run(context)

    @abstractmethod
    def run(self, context: Context) -> Any:
        """Do the step and return what later tasks need, as JSON.

        :raises SlipwayError: if it fails.
        """


class PlanOperator(SlipwayOperator):
    """Base of the steps that follow a resolving operator.

    :param plan: what `ResolveVersionOperator` or `ResolveDeploymentOperator` returned.
    :param mlflow_conn_id: MLflow's connection.
    """

    template_fields: Sequence[str] = ("plan",)

    def __init__(self, *, plan: Any, mlflow_conn_id: str = "mlflow_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.mlflow_conn_id = mlflow_conn_id
