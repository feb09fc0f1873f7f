"""One worker process: loads the model, then answers requests on the shared socket until SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

from slipway_scoring import logs, sockets
from slipway_scoring.app import App
from slipway_scoring.bundle_pyfunc import BundleError
from slipway_scoring.dialects import routes
from slipway_scoring.loaders import load
from slipway_scoring.metrics import Meters
from slipway_scoring.model import Model, ModelLoadError
from slipway_scoring.rsgi import Listener
from slipway_scoring.scoreboard import BROKEN, DRAINING, READY, Scoreboard
from slipway_scoring.scorer import Scorer
from slipway_scoring.settings import Settings
from slipway_scoring.supervisor import LOAD_FAILED

logger = logging.getLogger(__name__)

_BEAT = 0.25
_FLUSH = 0.05
_QUIET = 0.3
"""Seconds without a request after which a draining worker closes the connections that idle clients keep open."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is given: its number, the settings, the socket and memory that all workers share."""

    number: int
    settings: Settings
    listener: socket.socket
    board: Scoreboard


def run(place: Place, directory: Path) -> int:
    """Serve; returns the exit status, LOAD_FAILED if the model cannot be loaded or cannot predict its golden sample."""
    started = time.perf_counter()
    try:
        model = load(directory)
    except (ModelLoadError, BundleError) as error:
        sys.stderr.write(f"{error}\n")
        return LOAD_FAILED
    logs.configure(_identity(model, place))
    status = uvloop.run(_serve(place, model, started))
    sys.stderr.flush()
    # No interpreter shutdown: a prediction that hangs in its thread would hold it up.
    os._exit(status)


async def _serve(place: Place, model: Model, started: float) -> int:
    log = logs.RequestLog(_identity(model, place), everything=place.settings.access_log == "on")
    app, scorer = make_app(place, model, log)
    try:
        scorer.warm_up()
    except Exception as error:  # noqa: BLE001 -- a model may raise anything
        sys.stderr.write(
            f"The model cannot predict its own golden sample ({type(error).__name__}: {error}): check that its "
            "requirements match the packages it was made with.\n"
        )
        return LOAD_FAILED
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, scorer.drain)
    # What is alive now stays alive: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    listener = Listener(place.number, app.__rsgi__, place.listener, place.settings)
    place.board.beat(place.number, READY)
    logger.info("ready on %s after %.2f s", sockets.address(place.listener), time.perf_counter() - started)
    await _live(place, app, scorer, log)
    await _drain(place, app, log, listener)
    return 0


def _identity(model: Model, place: Place) -> dict[str, object]:
    return {"model": model.name, "version": model.version, "worker": place.number}


def make_app(place: Place, model: Model, log: logs.RequestLog) -> tuple[App, Scorer]:
    """The application for one model, and the scorer behind it."""
    identity = {"model": model.name, "version": model.version, "flavor": model.flavor}
    meters = Meters(place.board, place.number, identity)
    scorer = Scorer(model, place.settings, meters.batch)
    table = routes(scorer, root_path=place.settings.root_path, metrics=meters.render)
    return App(table, scorer, place.settings, meters, log), scorer


async def _live(place: Place, app: App, scorer: Scorer, log: logs.RequestLog) -> None:
    """Beat, flush the log and look after the model, until SIGTERM."""
    next_beat = 0.0
    while not scorer.draining:
        await asyncio.sleep(_FLUSH)
        log.flush()
        app.note_levels()
        now = time.monotonic()
        # A prediction that hangs in its thread stops the heart too, and the supervisor replaces this process.
        if now >= next_beat and scorer.batcher.stuck_for < place.settings.hang_limit:
            scorer.look_after()
            place.board.beat(place.number, READY if scorer.ready else BROKEN)
            next_beat = now + _BEAT


async def _drain(place: Place, app: App, log: logs.RequestLog, listener: Listener) -> None:
    """Serve whoever still sends; every answer says `connection: close`. What is left then is idle and can be closed."""
    deadline = time.monotonic() + place.settings.drain_time
    while time.monotonic() < deadline and (app.in_flight or time.perf_counter() - app.last_request < _QUIET):
        place.board.beat(place.number, DRAINING)
        await asyncio.sleep(_FLUSH / 5)
        log.flush()
    if not await listener.close(max(deadline - time.monotonic(), 0.5)):
        logger.warning("%d requests were still open when the drain time was over", app.in_flight)
    log.flush()
