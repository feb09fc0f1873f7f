"""One worker process: loads the model, then answers requests on the shared socket until SIGTERM.

Granian's Rust server is driven here as Granian's own `MPServer._spawn_rsgi_worker` does it, but on a socket that the
supervisor made.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

import uvloop
from granian._futures import _future_watcher_wrapper, _new_cbscheduler
from granian._granian import RSGIWorker, SocketHolder, WorkerSignal
from granian.http import HTTP1Settings

from slipway_scoring import logs, sockets
from slipway_scoring.app import UNKNOWN, App
from slipway_scoring.bundle_pyfunc import BundleError
from slipway_scoring.dialects import routes
from slipway_scoring.loaders import load
from slipway_scoring.metrics import Meters
from slipway_scoring.model import Model, ModelLoadError
from slipway_scoring.scoreboard import BROKEN, DRAINING, READY, Scoreboard
from slipway_scoring.scorer import Scorer
from slipway_scoring.settings import Settings
from slipway_scoring.supervisor import LOAD_FAILED

logger = logging.getLogger(__name__)

_BEAT = 0.25
_FLUSH = 0.05
_QUIET = 0.3
"""Seconds without a request after which a draining worker closes the connections that idle clients keep open."""
_MAX_CONNECTIONS = 8192
_SWITCH_INTERVAL = 0.001
"""Python threads hand over after this many seconds: a prediction in a thread must not hold up the event loop."""


def run(number: int, directory: Path, settings: Settings, listener: socket.socket, board: Scoreboard) -> int:
    """Serve; returns the exit status, LOAD_FAILED if the model cannot be loaded."""
    started = time.perf_counter()
    try:
        model = load(directory)
    except (ModelLoadError, BundleError) as error:
        sys.stderr.write(f"{error}\n")
        return LOAD_FAILED
    identity = {"model": model.name, "version": model.version, "worker": number}
    logs.configure(identity)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    uvloop.install()
    with asyncio.Runner() as runner:
        return _serve(runner, _Worker(number, model, settings, listener, board, identity), started)


class _Worker:
    """What belongs to one worker, gathered."""

    def __init__(
        self,
        number: int,
        model: Model,
        settings: Settings,
        listener: socket.socket,
        board: Scoreboard,
        identity: dict[str, object],
    ) -> None:
        self.number = number
        self.model = model
        self.settings = settings
        self.listener = listener
        self.board = board
        self.log = logs.RequestLog(identity, everything=settings.access_log == "on")


def _serve(runner: asyncio.Runner, worker: _Worker, started: float) -> int:
    loop = runner.get_loop()
    app, scorer = runner.run(_make_app(worker))
    try:
        scorer.warm_up()
    except Exception as error:  # noqa: BLE001 -- a model may raise anything
        sys.stderr.write(
            f"The model cannot predict its own golden sample ({type(error).__name__}: {error}): check that its "
            "requirements match the packages it was made with.\n"
        )
        return LOAD_FAILED
    stop, ended = WorkerSignal(), asyncio.Event()
    stop.add_cb(lambda: loop.call_soon_threadsafe(ended.set))
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, _begin_drain, scorer)
    # What is alive now stays: the collector need not look at it again, nor copy its pages after a fork.
    gc.collect()
    gc.freeze()
    _listen(worker, app, loop, stop)
    worker.board.beat(worker.number, READY)
    address = sockets.address(worker.listener)
    logger.info("ready on %s after %.2f s", address, time.perf_counter() - started)
    runner.run(_live(worker, app, scorer, stop, ended))
    worker.log.flush()
    # No interpreter shutdown: a stuck prediction thread would hold it up.
    sys.stderr.flush()
    os._exit(0)


async def _make_app(worker: _Worker) -> tuple[App, Scorer]:
    model, settings = worker.model, worker.settings
    meters: Meters | None = None

    def observe(requests: int, rows: int, seconds: float) -> None:
        if meters is not None:
            meters.batch(requests, rows, seconds)

    scorer = Scorer(model, settings, observe)
    table = routes(scorer, root_path=settings.root_path, metrics=lambda: b"" if meters is None else meters.render())
    labels = [UNKNOWN, *(route.path for route in table)]
    meters = Meters(
        worker.board, worker.number, labels, {"model": model.name, "version": model.version, "flavor": model.flavor}
    )
    return App(table, scorer, settings, meters, worker.log), scorer


def _listen(worker: _Worker, app: App, loop: asyncio.AbstractEventLoop, stop: WorkerSignal) -> None:
    settings = worker.settings
    is_uds = worker.listener.family == socket.AF_UNIX
    holder = SocketHolder(os.dup(worker.listener.fileno()), is_uds, sockets.BACKLOG)
    server = RSGIWorker(
        worker.number,
        (None, holder),
        None,
        backpressure=_MAX_CONNECTIONS,
        http_mode="1",
        http1_opts=HTTP1Settings(),
        ssl_enabled=bool(settings.tls_cert),
        ssl_cert=settings.tls_cert or None,
        ssl_key=settings.tls_key or None,
        ssl_protocol_min="tls1.2",
        ssl_crl=[],
        metrics=(None, None),
    )
    scheduler = _new_cbscheduler(loop, _future_watcher_wrapper(app.__rsgi__), impl_asyncio=True)
    (server.serve_str_uds if is_uds else server.serve_str)(scheduler, loop, stop)


def _begin_drain(scorer: Scorer) -> None:
    scorer.draining = True


async def _live(worker: _Worker, app: App, scorer: Scorer, stop: WorkerSignal, ended: asyncio.Event) -> None:
    """Beat, flush the log and look after the model, until drained."""
    board, number = worker.board, worker.number
    next_beat = 0.0
    while not scorer.draining:
        await asyncio.sleep(_FLUSH)
        worker.log.flush()
        now = time.monotonic()
        app.note_levels()
        if now >= next_beat and scorer.batcher.stuck_for < worker.settings.hang_limit:
            scorer.look_after()
            board.beat(number, READY if scorer.ready else BROKEN)
            next_beat = now + _BEAT
    board.beat(number, DRAINING)
    # Every answer now says `connection: close`. Whoever still sends is served; then the rest is idle and may be closed.
    deadline = time.monotonic() + worker.settings.drain_time
    while time.monotonic() < deadline and (app.in_flight or time.monotonic() - app.last_request < _QUIET):
        await asyncio.sleep(_FLUSH / 5)
        worker.log.flush()
        board.beat(number, DRAINING)
    stop.set()
    try:
        await asyncio.wait_for(ended.wait(), timeout=max(deadline - time.monotonic(), 0.5))
    except TimeoutError:
        logger.warning("%d requests were still open at the end", app.in_flight)
