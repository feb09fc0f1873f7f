"""The environment of each process: settings, connections and keys, and why each tuning choice is made."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from slipway_stack.keys import LOGIN, Keys, login_file
from slipway_stack.ports import LOOPBACK
from slipway_stack.settings import CHECKOUT, Stack

# Settings of another Airflow, MLflow, model host or Python in the user's shell stay out of the stack. Among them is
# PYTHONDONTWRITEBYTECODE, with which each start of each process would compile tens of thousands of lines again.
_KEPT_OUT = ("AIRFLOW", "_AIRFLOW", "MLFLOW_", "_MLFLOW", "MODEL_HOST_", "PYTHON")


def shared(stack: Stack) -> dict[str, str]:
    """What every process of the stack has."""
    tools = Path(sys.executable).parent
    return {
        "SLIPWAY_HOME": str(stack.home),
        "SLIPWAY_UV": str(tools / "uv"),
        "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        # Nothing that runs on this machine reports home.
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def airflow(stack: Stack, keys: Keys) -> dict[str, str]:
    """Airflow's settings, Slipway's own in its `[slipway]` section, and the two connections."""
    settings: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": CHECKOUT / "dags",
            "plugins_folder": CHECKOUT / "plugins",
            "load_examples": False,
            # Who may change a connection here may test it: everybody who signs in is the machine's own user.
            "test_connection": "Enabled",
            # An action that is there can be used: nobody has to find the switch first.
            "dags_are_paused_at_creation": False,
            "executor": "LocalExecutor",
            # Forked task processes at once; the default of 32 would only queue up on a laptop's cores.
            "parallelism": 8,
            "simple_auth_manager_users": f"{LOGIN}:admin",
            "simple_auth_manager_passwords_file": login_file(stack),
            "fernet_key": keys.fernet_key,
            "execution_api_server_url": f"{stack.url('airflow')}/execution/",
        },
        # Airflow itself puts SQLite into WAL mode, so that readers wait for nobody. Writers wait for each other, by
        # default for 5 s, and then fail with "database is locked"; on a busy machine that is too short.
        "database": {"sql_alchemy_conn": f"sqlite:///{stack.airflow / 'airflow.db'}?timeout=60"},
        "api": {
            "host": LOOPBACK,
            "port": stack.ports["airflow"],
            "base_url": stack.url("airflow"),
            "secret_key": keys.api_secret,
            "instance_name": "Slipway",
            # One process: on SQLite more would only wait for each other, and each costs seconds to start.
            "workers": 1,
        },
        "api_auth": {"jwt_secret": keys.jwt_secret},
        "logging": {"base_log_folder": stack.airflow / "logs", "colored_console_log": False},
        "scheduler": {
            # How long an idle scheduler sleeps, so what each step of an action may wait. The default of 1 s
            # adds up over the tasks of a deploy; a loop with nothing to do takes about 20 ms on SQLite.
            "scheduler_idle_sleep_time": 0.2,
            # How long a killed scheduler or triggerer counts as healthy, and its work as in good hands.
            "scheduler_heartbeat_sec": 2,
            "scheduler_health_check_threshold": 10,
            "orphaned_tasks_check_interval": 10,
            "task_instance_heartbeat_timeout": 60,
        },
        "triggerer": {"job_heartbeat_sec": 2, "triggerer_health_check_threshold": 10},
        "dag_processor": {
            "dag_bundle_storage_path": stack.airflow / "dag_bundles",
            # A new file shows up within seconds, and a changed one too (sorting by time of change puts it in
            # front whatever its interval); unchanged ones are left alone, since parsing costs a core.
            "refresh_interval": 5,
            "bundle_refresh_check_interval": 2,
            "file_parsing_sort_mode": "modified_time",
            "min_file_process_interval": 300,
            "parsing_processes": 2,
            "health_check_threshold": 20,
        },
        "slipway": {
            "bundle_store": stack.bundles.as_uri(),
            "environments_dir": stack.environments,
            "scoring_home": CHECKOUT / "include" / "scoring",
            # What a bundle's own code must not see while it is probed (Airflow's home never is).
            "masked_dirs": ":".join(map(str, (stack.secrets, stack.run, stack.mlflow, stack.model_host))),
        },
    }
    values = {
        f"AIRFLOW__{section.upper()}__{name.upper()}": str(value)
        for section, entries in settings.items()
        for name, value in entries.items()
    }
    return {
        **shared(stack),
        "AIRFLOW_HOME": str(stack.airflow),
        # Airflow looks for providers, which is how it learns of our connection types, before it adds this folder.
        "PYTHONPATH": str(CHECKOUT / "plugins"),
        **values,
        "AIRFLOW_CONN_MLFLOW_DEFAULT": _connection(stack.ports["mlflow"]),
        "AIRFLOW_CONN_MODEL_HOST_DEFAULT": _connection(stack.ports["model_host_admin"], password=keys.model_host_token),
        # Score workflows run embedded until the user's own connection says otherwise.
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[*]"}),
        **_from_user(
            *("AIRFLOW_CONN_", "AIRFLOW_VAR_", "AIRFLOW__SLIPWAY__", "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS",
        ),
    }


def mlflow(stack: Stack) -> dict[str, str]:
    """The MLflow server's environment; its stores are arguments."""
    return {
        **shared(stack),
        # Its job runners (for GenAI evaluation) are processes that a model registry has no use for.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def model_host(stack: Stack, keys: Keys) -> dict[str, str]:
    """The model host's settings."""
    return {
        **_from_user("MODEL_HOST_"),
        **shared(stack),
        "PYTHONPATH": str(CHECKOUT / "include" / "model_host"),
        "MODEL_HOST_HOME": str(stack.model_host),
        "MODEL_HOST_PORT": str(stack.ports["model_host"]),
        "MODEL_HOST_ADMIN_PORT": str(stack.ports["model_host_admin"]),
        "MODEL_HOST_ADMIN_TOKEN": keys.model_host_token,
        "MODEL_HOST_SCORING_HOME": str(CHECKOUT / "include" / "scoring"),
        "MODEL_HOST_ENVIRONMENTS_DIR": str(stack.environments),
        "MLFLOW_TRACKING_URI": stack.url("mlflow"),
    }


def inherited(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The user's environment without the settings of another Airflow, MLflow or Python."""
    return {name: value for name, value in environ.items() if not name.startswith(_KEPT_OUT)}


def _from_user(*prefixes: str) -> dict[str, str]:
    """What is for the user to give: connections, Airflow's variables, Slipway's own settings, the host's limits."""
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def _connection(port: int, *, password: str | None = None) -> str:
    parts = {"conn_type": "http", "schema": "http", "host": LOOPBACK, "port": port, "password": password}
    return json.dumps({name: value for name, value in parts.items() if value is not None})
