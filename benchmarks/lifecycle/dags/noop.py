"""DAGs that do nothing, in as many tasks as the action that they are measured against."""

from __future__ import annotations

import itertools
from typing import Any

from airflow.sdk import DAG, BaseOperator


class NoOp(BaseOperator):
    """Run, as any task does, and do nothing."""

    def execute(self, context: Any) -> None:
        """Do nothing."""


for count in range(1, 8):
    with DAG(dag_id=f"noop_{count}", schedule=None, catchup=False) as dag:
        tasks = [NoOp(task_id=f"step_{number}") for number in range(count)]
        for before, after in itertools.pairwise(tasks):
            before >> after
    globals()[dag.dag_id] = dag
