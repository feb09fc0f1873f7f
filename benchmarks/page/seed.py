"""Fills an MLflow server's SQLite database with models: by the server's API ten thousand versions take minutes."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

VERSIONS = 10
# Each third model is deployed, each seventh has a challenger.
DEPLOYED, CHALLENGED = 3, 7


def seed(database: Path, models: int, prefix: str = "model") -> list[str]:
    """Add models named `<prefix>-0000`, … with ten versions each, as Slipway would have made them; return the names."""
    now = int(time.time() * 1000)
    names = [f"{prefix}-{number:04d}" for number in range(models)]
    with sqlite3.connect(database, timeout=60) as connection:
        for number, name in enumerate(names):
            _add_model(connection, name, number, now)
    return names


def _add_model(connection: sqlite3.Connection, name: str, number: int, now: int) -> None:
    changed = now - number * 60_000
    connection.execute(
        "INSERT INTO registered_models (workspace, name, creation_time, last_updated_time, description) "
        "VALUES ('default', ?, ?, ?, ?)",
        (name, changed, changed, f"Made for measuring, number {number}."),
    )
    for version in range(1, VERSIONS + 1):
        connection.execute(
            "INSERT INTO model_versions (workspace, name, version, creation_time, last_updated_time, current_stage, "
            "source, status, storage_location) "
            "VALUES ('default', ?, ?, ?, ?, 'None', 'mlflow-artifacts:/x', 'READY', '')",
            (name, version, changed, changed),
        )
        tags = {
            "slipway.bundle_digest": f"{number * VERSIONS + version:064x}",
            "slipway.lock_digest": f"{number:064x}",
            "slipway.run": f"register_model/{name}-{version}",
        }
        if number % DEPLOYED == 0 and version == VERSIONS:
            tags[f"slipway.deployment.mlflow.{name}"] = _record(name, version)
        connection.executemany(
            "INSERT INTO model_version_tags (workspace, name, version, key, value) VALUES ('default', ?, ?, ?, ?)",
            [(name, version, key, value) for key, value in tags.items()],
        )
    if number % DEPLOYED == 0:
        connection.execute(
            "INSERT INTO registered_model_tags (workspace, name, key, value) "
            "VALUES ('default', ?, 'slipway.targets', 'mlflow')",
            (name,),
        )
    aliases = [("champion", VERSIONS), *([("challenger", 1)] if number % CHALLENGED == 0 else [])]
    connection.executemany(
        "INSERT INTO registered_model_aliases (workspace, name, alias, version) VALUES ('default', ?, ?, ?)",
        [(name, alias, version) for alias, version in aliases],
    )


def _record(name: str, version: int) -> str:
    return json.dumps(
        {
            "endpoint": name,
            "target": "mlflow",
            "url": f"http://127.0.0.1:5100/endpoints/{name}",
            "model": name,
            "version": str(version),
            "deployment": f"v{version}-00000000",
            "deployed_at": "2026-11-22T12:00:00Z",
            "run": f"deploy_mlflow/{name}-1",
        }
    )
