"""Make the secrets of the production stack: `python3 make_secrets.py FOLDER ENV_FILE`. Standard library only.

Each secret is a file of its own, which docker-compose.yaml mounts where it is needed, and nowhere else. What is there
stays as it is. FOLDER is its owner's alone; the files in it are readable, because the users inside the containers
are others than the owner outside.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from pathlib import Path

_REDIS = """\
requirepass {password}
dir /data
# The queue survives a restart; and when memory is full, writes fail, instead of tasks being forgotten.
appendonly yes
maxmemory-policy noeviction
"""


def main(folder: Path, env_file: Path) -> None:
    """Make what is missing, and note the folder in ENV_FILE, where docker-compose looks for it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)

    def made(name: str, text: str) -> str:
        path = folder / name
        if not path.exists():
            partial = path.with_name(f".{name}.partial")
            partial.write_text(text)
            partial.chmod(0o444)
            partial.replace(path)
        return path.read_text()

    def password(name: str, size: int = 32) -> str:
        return made(name, secrets.token_urlsafe(size))

    password("postgres_password")
    password("airflow_admin_password", 15)
    password("api_secret_key", 48)
    password("jwt_secret", 48)
    made("fernet_key", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    for owner in ("airflow", "mlflow"):
        key = password(f"{owner}_database_password")
        made(f"{owner}_database_url", f"postgresql+psycopg2://{owner}:{key}@postgres:5432/{owner}")
    redis = secrets.token_urlsafe(32)
    found = made("redis.conf", _REDIS.format(password=redis))
    redis = found.splitlines()[0].removeprefix("requirepass ")
    made("celery_broker_url", f"redis://:{redis}@redis:6379/0")
    made("celery_result_backend", f"redis://:{redis}@redis:6379/1")
    token = password("model_host_token")
    made("connections.json", json.dumps(_connections(token), indent=2))

    setting = f"SLIPWAY_SECRETS={folder.resolve()}"
    lines = env_file.read_text().splitlines() if env_file.exists() else []
    if setting not in lines:
        kept = [line for line in lines if not line.startswith("SLIPWAY_SECRETS=")]
        env_file.write_text("\n".join([*kept, setting]) + "\n")


def _connections(model_host_token: str) -> dict[str, object]:
    """What the DAGs need to know of the stack; more connections may be added to the file, or in Airflow."""
    return {
        "mlflow_default": {"conn_type": "http", "host": "mlflow", "port": 5000},
        "model_host_default": {
            "conn_type": "http",
            "host": "model-host",
            "port": 5101,
            "password": model_host_token,
            # Endpoints' published addresses are for those outside; the workers are inside.
            "extra": {"front_door": "http://model-host:5100"},
        },
        "spark_default": {"conn_type": "spark", "host": "local[*]"},
    }


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: make_secrets.py FOLDER ENV_FILE")
    os.umask(0o077)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
