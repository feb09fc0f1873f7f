"""The secrets of the production stack: made once, each in a file of its own, in a folder for its owner alone."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from slipway.hooks.docker_engine import DockerEngineHook
from tests.images.conftest import saved

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


@pytest.mark.requires("docker")
def test_no_secret_of_a_checkout_goes_into_the_production_image(tmp_path: Path) -> None:
    """What the engine is sent, all of it, put into an image: the rest of the build is of the same files."""
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    secret, image = "a-planted-secret-4712", f"slipway-test/context:{secrets.token_hex(4)}"
    places = (".env", ".secrets/broker", ".slipway/keys.json", ".git/config", "inbox/key", "include/.env")
    files = {"Dockerfile": "FROM scratch\nCOPY . /\n", "dags/code.py": "# the code\n", **dict.fromkeys(places, secret)}
    for place, text in files.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    subprocess.run(["docker", "build", "--quiet", "--tag", image, tmp_path], check=True, capture_output=True)
    try:
        files_inside = saved(DockerEngineHook(), image)
    finally:
        subprocess.run(["docker", "rmi", image], check=True, capture_output=True)
    assert any(b"# the code" in data for data in files_inside)
    assert not any(secret.encode() in data for data in files_inside)
