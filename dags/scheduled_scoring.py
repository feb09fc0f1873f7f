"""One DAG of Airflow's for each score workflow with a schedule: its data interval becomes the parameters."""

from __future__ import annotations

from slipway.workflows import catalog
from slipway.workflows.scheduled import scheduled_dag

for _definition, _ in catalog.load().definitions.values():
    if _definition.schedule is not None:
        _dag = scheduled_dag(_definition, __doc__)
        globals()[_dag.dag_id] = _dag
