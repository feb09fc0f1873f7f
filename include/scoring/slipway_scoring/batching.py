"""Adaptive micro-batching: requests that wait at the same moment are predicted together.

A batch starts as soon as the model is free. It waits only while other requests are known to be on their way (their
bodies are being read), and at most to the policy's size and delay: a lone request never waits for company. A
prediction that is known to be short runs on the event loop itself, because handing it to a thread costs more than it
takes; a long one runs in a thread, so that the loop goes on answering (health, 429, 504).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from slipway_scoring.errors import Overloaded, TimedOut
from slipway_scoring.interrupt import Alarm, Interrupted
from slipway_scoring.model import BatchPolicy
from slipway_scoring.outputs import NotByRowError, split
from slipway_scoring.payload import Payload

INLINE_SECONDS = 0.02
"""A prediction expected to take no longer runs on the event loop."""
_SMALL_ROWS = 64
_WEIGHT = 0.2
_EXPIRY_TICK = 0.05
_ALWAYS_QUEUED = 32
"""A queue this short is no overload, however slow the model."""
_TOO_LONG = "The prediction took longer than the time limit: send fewer rows."

Predict = Callable[[Sequence[Payload], Mapping[str, Any] | None], Any]


class Job(NamedTuple):
    """One request's prediction."""

    payload: Payload
    params: Mapping[str, Any] | None
    future: asyncio.Future[Any]
    deadline: float


class Batcher:
    """Queues jobs for one model and runs them.

    Args:
        predict: predicts several payloads of one layout together, in their order.
        policy: whether and how far jobs are joined.
        max_queue: more waiting jobs than this are refused.
        max_wait: seconds; a job that would have to wait longer is refused, so that those ahead of it stay in time.
        time_limit: seconds from a job's arrival to its answer.
        observe: told (jobs, rows, seconds) of every prediction.
    """

    def __init__(
        self,
        predict: Predict,
        policy: BatchPolicy,
        *,
        max_queue: int,
        max_wait: float,
        time_limit: float,
        observe: Callable[[int, int, float], None],
    ) -> None:
        self._predict = predict
        self._policy = policy
        self._together = policy.enabled
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._job_seconds = 0.0
        self._time_limit = time_limit
        self._observe = observe
        self._pace = Pace()
        self._queue: deque[Job] = deque()
        self._running: list[Job] = []
        self._running_since = 0.0
        self._start_soon: asyncio.Handle | None = None
        self._patience: asyncio.Handle | None = None
        self._approaching = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._alarm = Alarm()
        self._loop = asyncio.get_running_loop()

    @property
    def depth(self) -> int:
        """How many jobs wait."""
        return len(self._queue)

    @property
    def stuck_for(self) -> float:
        """Seconds that the prediction under way has taken; 0 if there is none."""
        return time.monotonic() - self._running_since if self._running else 0.0

    def learn(self, seconds: float, rows: int) -> None:
        """Tell how long a prediction took (a rehearsal), so that the first request finds the better way."""
        self._pace.learn(seconds, rows)

    def admit(self) -> None:
        """Refuse a request before its body is even read.

        Raises:
            Overloaded: the queue is full.
        """
        waiting = len(self._queue)
        if waiting >= self._max_queue or (waiting >= _ALWAYS_QUEUED and waiting * self._job_seconds > self._max_wait):
            raise Overloaded(f"{waiting} requests wait already: send it again after the Retry-After time.")

    async def submit(self, payload: Payload, params: Mapping[str, Any] | None) -> Any:
        """The model's output for `payload`.

        Raises:
            Overloaded: the queue is full.
            TimedOut: no output within the time limit.
            Exception: what the model raised for this payload.
        """
        self.admit()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.append(Job(payload, params, future, time.monotonic() + self._time_limit))
        if self._start_soon is None and not self._running:
            self._consider()
        return await future

    def approach(self) -> None:
        """A request is on its way: its body is about to be read."""
        self._approaching += 1

    def arrive(self) -> None:
        """Its body is here; it is submitted, or refused, in this very turn of the loop."""
        self._approaching -= 1
        if not self._approaching and self._queue and self._start_soon is None and not self._running:
            self._start_soon = self._loop.call_soon(self._start)

    def _consider(self) -> None:
        """Start a batch at the end of this turn of the loop, or when those on their way are here."""
        if not self._together or not self._approaching or len(self._queue) >= self._policy.max_size:
            self._start_soon = self._loop.call_soon(self._start)
        elif self._patience is None:
            self._patience = self._loop.call_later(self._policy.max_delay, self._start)

    def _start(self) -> None:
        for handle in (self._start_soon, self._patience):
            if handle is not None:
                handle.cancel()
        self._start_soon = self._patience = None
        if self._running:
            return
        now = time.monotonic()
        while self._queue and self._queue[0].deadline <= now:
            _expire(self._queue.popleft())
        if not self._queue:
            return
        jobs = self._take()
        self._running, self._running_since = jobs, now
        rows = sum(job.payload.rows for job in jobs)
        if self._pace.expected(rows) <= INLINE_SECONDS:
            try:
                outcomes, seconds = self._alarm.run(jobs[0].deadline - now, partial(self._work, jobs))
            except Interrupted:
                outcomes, seconds = [TimedOut(_TOO_LONG)] * len(jobs), time.monotonic() - now
            self._finish(jobs, outcomes, seconds)
        else:
            self._loop.call_later(_EXPIRY_TICK, self._expire_overdue)
            work = self._loop.run_in_executor(self._thread, self._work, jobs)
            work.add_done_callback(lambda done: self._finish(jobs, *done.result()))

    def _take(self) -> list[Job]:
        """The first job, and those behind it that can be predicted with it."""
        first = self._queue.popleft()
        jobs = [first]
        layout = first.payload.layout
        if not self._together or layout is None:
            return jobs
        room = self._policy.max_size - first.payload.rows
        others: list[Job] = []
        while self._queue and room > 0:
            job = self._queue.popleft()
            if job.payload.rows <= room and job.params == first.params and job.payload.layout == layout:
                jobs.append(job)
                room -= job.payload.rows
            else:
                others.append(job)
        self._queue.extendleft(reversed(others))
        return jobs

    def _work(self, jobs: list[Job]) -> tuple[list[Any], float]:
        """Predict; one outcome a job, an exception being one. Runs on the loop or in the thread; raises nothing."""
        started = time.perf_counter()
        outcomes = self._together_or_apart(jobs)
        return outcomes, time.perf_counter() - started

    def _together_or_apart(self, jobs: list[Job]) -> list[Any]:
        if len(jobs) > 1:
            try:
                result = self._predict([job.payload for job in jobs], jobs[0].params)
                return split(result, [job.payload.rows for job in jobs])
            except NotByRowError:
                # The model's output is no row-by-row one after all: never join its requests again.
                self._together = False
            except (Exception, SystemExit):  # noqa: BLE001, S110 -- one job is at fault: run apart, only that one fails
                pass
        outcomes: list[Any] = []
        for job in jobs:
            try:
                outcomes.append(self._predict([job.payload], job.params))
            except (StopIteration, SystemExit) as error:
                # Neither may pass through a future, and a model's sys.exit must not end the server.
                outcomes.append(RuntimeError(f"the model raised {error!r}"))
            except Exception as error:  # noqa: BLE001 -- whatever a model raises is this job's outcome
                outcomes.append(error)
        return outcomes

    def _finish(self, jobs: list[Job], outcomes: list[Any], seconds: float) -> None:
        rows = sum(job.payload.rows for job in jobs)
        self._running = []
        self._pace.learn(seconds, rows)
        self._job_seconds += (seconds / len(jobs) - self._job_seconds) * _WEIGHT
        self._observe(len(jobs), rows, seconds)
        late = time.monotonic()
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.future.done():
                continue
            if late > job.deadline:
                _expire(job)
            elif isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)
        if self._queue:
            self._consider()

    def _expire_overdue(self) -> None:
        """While a long prediction runs: answer those, in it and behind it, whose time is up."""
        now = time.monotonic()
        for job in self._running:
            if job.deadline <= now:
                _expire(job)
        while self._queue and self._queue[0].deadline <= now:
            _expire(self._queue.popleft())
        if self._running:
            self._loop.call_later(_EXPIRY_TICK, self._expire_overdue)


def _expire(job: Job) -> None:
    if not job.future.done():
        job.future.set_exception(TimedOut(_TOO_LONG))


class Pace:
    """Guesses how long the next prediction takes: running means of the time of a small one and of a row of a large."""

    def __init__(self) -> None:
        self._small: float | None = None
        self._row = 0.0

    def learn(self, seconds: float, rows: int) -> None:
        """Take in a prediction."""
        if rows <= _SMALL_ROWS:
            self._small = seconds if self._small is None else self._small + (seconds - self._small) * _WEIGHT
        else:
            self._row += (seconds / rows - self._row) * (_WEIGHT if self._row else 1.0)

    def expected(self, rows: int) -> float:
        """Seconds; infinite for what was not seen yet, which may be the slow one."""
        if rows <= _SMALL_ROWS:
            return float("inf") if self._small is None else self._small
        return self._row * rows if self._row else float("inf")
