"""The secrets of the production stack: made once, each in a file of its own, in a folder for its owner alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def make(folder: Path, env_file: Path) -> dict[str, str]:
    command = [sys.executable, str(ROOT / "include/compose/make_secrets.py"), str(folder), str(env_file)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "", "nothing is shown"
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_they_are_made_once_and_differ_from_one_stack_to_the_next(tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text("AIRFLOW_PORT=8081\nSLIPWAY_SECRETS=/elsewhere\n")
    made = make(tmp_path / "secrets", env_file)
    assert env_file.read_text() == f"AIRFLOW_PORT=8081\nSLIPWAY_SECRETS={tmp_path / 'secrets'}\n"
    assert make(tmp_path / "secrets", env_file) == made
    other = make(tmp_path / "other", tmp_path / "env2")
    assert not [name for name in made if made[name] == other[name]]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert min(map(len, made.values())) >= 20


def test_one_that_is_lost_is_made_again_to_fit_the_others(tmp_path: Path) -> None:
    made = make(tmp_path / "secrets", tmp_path / "env")
    for name in ("airflow_database_url", "celery_broker_url", "connections.json"):
        (tmp_path / "secrets" / name).unlink()
    again = make(tmp_path / "secrets", tmp_path / "env")
    assert again == made
    assert made["airflow_database_password"] in made["airflow_database_url"]
    assert json.loads(made["connections.json"])["model_host_default"]["password"] == made["model_host_token"]


def test_the_compose_file_names_just_these(tmp_path: Path) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    assert set(compose["secrets"]) == set(make(tmp_path / "secrets", tmp_path / "env"))
    worker = set(compose["services"]["airflow-worker"]["secrets"])
    assert worker == {"celery_broker_url", "celery_result_backend", "connections.json"}
    used = {name for service in compose["services"].values() for name in service.get("secrets", [])}
    assert used == set(compose["secrets"])
