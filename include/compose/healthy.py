"""Health checks that cost little: `healthy.py URL [PART]`, or `healthy.py worker`. Status 1 is unhealthy.

Airflow's own commands import all of Airflow for each check, which takes a core for seconds. This asks the API server
what it knows of a part, or the worker over the broker whether it listens, and imports no more than that needs.
"""

from __future__ import annotations

import json
import socket
import sys
import urllib.request
from pathlib import Path

_PATIENCE_SECONDS = 8.0
_BROKER = Path("/run/secrets/celery_broker_url")


def _answers(url: str, part: str | None) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_SECONDS) as answer:  # noqa: S310  # addresses of this file's callers
            return part is None or json.load(answer)[part]["status"] == "healthy"
    except (OSError, ValueError, KeyError):
        return False


def _worker_listens() -> bool:
    from celery import Celery

    app = Celery(broker=_BROKER.read_text().strip())
    name = f"celery@{socket.gethostname()}"
    return bool(app.control.ping(destination=[name], timeout=_PATIENCE_SECONDS, limit=1))


def main(arguments: list[str]) -> int:
    """Return the exit status."""
    if arguments == ["worker"]:
        return 0 if _worker_listens() else 1
    return 0 if _answers(arguments[0], arguments[1] if len(arguments) > 1 else None) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
