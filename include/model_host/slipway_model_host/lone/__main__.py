"""`python -m slipway_model_host.lone --home DIR --port PORT`: the front door; `ask` puts questions to it."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvloop

from ..errors import HostError
from .ask import CONTROL
from .door import Lone, LoneDoor

_DRAIN_SECONDS = 30.0


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="slipway_model_host.lone", description=(__doc__ or ""))
    parser.add_argument("--home", type=Path, default=Path("/run/slipway"), help="folder that the containers share")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    uvloop.run(_serve(options.home, options.port))
    return 0


async def _serve(home: Path, port: int) -> None:
    lone = Lone(home)
    door = LoneDoor(lone.route)
    watching = asyncio.create_task(lone.watch())
    (home / CONTROL).unlink(missing_ok=True)
    control = await asyncio.start_unix_server(lambda r, w: _control(lone, r, w), str(home / CONTROL))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))  # noqa: S104  # the container's own address; what is published is the engine's to say
    await door.start(listener)
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    ending = asyncio.create_task(stop.wait())
    # A watch that ends has failed: better to end, and be restarted, than to stand here blind.
    await asyncio.wait({ending, watching}, return_when=asyncio.FIRST_COMPLETED)
    await door.stop(_DRAIN_SECONDS)
    control.close()
    if watching.done():
        watching.result()
    watching.cancel()
    ending.cancel()


async def _control(lone: Lone, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one line of JSON."""
    try:
        asked = json.loads(await reader.readline())
        if asked["command"] == "live":
            lone.set_live(asked["deployment"])
        elif asked["command"] == "drop":
            lone.drop(asked["deployment"])
        answer: dict[str, Any] = lone.status()
    except HostError as error:
        answer = {"error": error.message}
    except OSError as error:
        answer = {"error": f"The door's folder cannot be written: {error}"}
    writer.write(json.dumps(answer).encode() + b"\n")
    await writer.drain()
    writer.close()


if __name__ == "__main__":
    sys.exit(main())
