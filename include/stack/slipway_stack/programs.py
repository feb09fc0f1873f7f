"""The processes of the stack: what each runs, and how one sees that it is well."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from slipway_stack import environment
from slipway_stack.keys import Keys
from slipway_stack.ports import LOOPBACK
from slipway_stack.settings import Stack

_HERE = Path(__file__).resolve().parent
# What Airflow's own health route calls its parts; the API server is well if that route answers.
_AIRFLOW_PARTS = ("scheduler", "dag_processor", "triggerer")


@dataclass(frozen=True)
class Program:
    """One supervised process."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(repr=False)
    health_url: str
    # The part of Airflow's health answer that speaks of this process; None: any answer with 200 is health.
    health_part: str | None = None
    # Started only when Airflow's database is there.
    needs_database: bool = False
    # Whether its children are to be told to end, too; the model host tells its own, after draining them.
    stop_children: bool = True


def programs(stack: Stack, keys: Keys) -> list[Program]:
    """All processes, those first that others ask for."""
    airflow = environment.airflow(stack, keys)
    health = f"{stack.url('airflow')}/api/v2/monitor/health"
    # Logs are read from the folder that all share, so no process needs to serve its own over HTTP.
    arguments = {
        "scheduler": ["--skip-serve-logs"],
        "triggerer": ["--skip-serve-logs"],
        "dag_processor": [],
    }
    parts = [
        Program(
            name=f"airflow-{part.replace('_', '-')}",
            command=airflow_command(part.replace("_", "-"), *arguments[part]),
            environment=airflow,
            health_url=health,
            health_part=part,
            needs_database=True,
        )
        for part in _AIRFLOW_PARTS
    ]
    return [
        Program(
            name="mlflow",
            command=[
                *(sys.executable, str(_HERE / "mlflow_server.py"), "--host", LOOPBACK),
                *("--port", str(stack.ports["mlflow"]), "--home", str(stack.mlflow)),
            ],
            environment=environment.mlflow(stack),
            health_url=f"{stack.url('mlflow')}/health",
        ),
        Program(
            name="model-host",
            command=[sys.executable, "-m", "slipway_model_host"],
            environment=environment.model_host(stack, keys),
            health_url=f"{stack.url('model_host_admin')}/health",
            stop_children=False,
        ),
        Program(
            name="airflow-api-server",
            command=[sys.executable, str(_HERE / "airflow_api_server.py")],
            environment=airflow,
            # The API that tasks use: Airflow builds it at the first request for it, which takes seconds. Asked for
            # here, it is built while the other processes start, and not while the first action waits.
            health_url=f"{stack.url('airflow')}/execution/health",
            needs_database=True,
        ),
        *parts,
    ]


def airflow_command(*arguments: str) -> list[str]:
    """Airflow's command line, in this environment's interpreter."""
    return [sys.executable, "-m", "airflow", *arguments]
