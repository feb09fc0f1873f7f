"""`python -m slipway_model_host --home DIR`; see the README for all settings."""

from __future__ import annotations

import logging
import os
import resource
import sys

import uvloop

from .app import run
from .config import read_config
from .store import Store

_OPEN_FILES = 65536


def main() -> int:
    """Run the host until it is told to stop."""
    config = read_config(sys.argv[1:], os.environ)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    store = Store(config.home)
    store.open()
    # A connection is a file; the soft limit is often 1024.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, _OPEN_FILES), hard))
    try:
        uvloop.run(run(config, store))
    finally:
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
