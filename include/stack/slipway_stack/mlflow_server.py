"""The MLflow server in one process: `python mlflow_server.py --host H --port P --home DIR`.

`mlflow server` prepares the database and then starts uvicorn as a child, which imports MLflow a second time:
twice the time to the first answer, and a child that keeps the port if its parent is killed. This does what
that command does (mlflow/cli and mlflow/server of the locked version) in the process that then serves.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def main() -> None:
    """Make or migrate the database, then serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--home", type=Path, required=True, help="folder of the database and the artifacts")
    # A file, because it has a password in it, and arguments are seen by all.
    parser.add_argument("--database-url-file", type=Path, help="file with the URL of a database elsewhere")
    parser.add_argument("--artifacts-destination", help="URI of a store elsewhere, such as s3://bucket/path")
    arguments = parser.parse_args()
    database = f"sqlite:///{arguments.home / 'mlflow.db'}"
    if arguments.database_url_file:
        database = arguments.database_url_file.read_text().strip()

    import uvicorn
    from mlflow.server import constants
    from mlflow.server.handlers import initialize_backend_stores

    artifacts = "mlflow-artifacts:/"
    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = database
    os.environ[constants.REGISTRY_STORE_URI_ENV_VAR] = database
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = artifacts
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    destination = arguments.artifacts_destination or str(arguments.home / "artifacts")
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = destination
    initialize_backend_stores(database, database, artifacts)
    uvicorn.run("mlflow.server.fastapi_app:app", host=arguments.host, port=arguments.port, log_level="info")


if __name__ == "__main__":
    main()
