"""The data plane: from a payload to predictions, whatever dialect they came in. The dialects are thin skins over it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from slipway_scoring.batching import Batcher
from slipway_scoring.codecs.json_out import UnwritableOutputError
from slipway_scoring.errors import BadPayload, ModelBroken, NotReady, ScoringError, TooLarge
from slipway_scoring.model import BatchPolicy, Model, check_params
from slipway_scoring.payload import Payload
from slipway_scoring.settings import Settings

logger = logging.getLogger(__name__)

_REHEARSAL_PAUSE = 1.0


class Scorer:
    """Checks, queues and predicts for one model; knows whether predicting works.

    Args:
        model: the loaded model.
        settings: limits and the batching policy.
        observe: told (requests, rows, seconds) of every prediction.
    """

    def __init__(self, model: Model, settings: Settings, observe: Callable[[int, int, float], None]) -> None:
        self.model = model
        self.max_rows = settings.max_rows
        self.draining = False
        self._broken = False
        self._rehearsed = self._traced = 0.0
        policy = model.batching
        if settings.batching != "auto":
            policy = BatchPolicy(settings.batching == "on", policy.max_size, policy.max_delay)
        self.batcher = Batcher(
            model.predict,
            policy,
            max_queue=settings.max_queue,
            max_wait=settings.max_wait,
            time_limit=settings.time_limit,
            observe=observe,
        )

    @property
    def ready(self) -> bool:
        """Whether to send requests here."""
        return not self._broken and not self.draining

    def check_ready(self) -> None:
        """Refuse health checks while predicting does not work, or the server is about to stop.

        Raises:
            NotReady: so it is.
        """
        if self.draining:
            raise NotReady("The server is about to stop: send requests to another one.")
        if self._broken:
            raise NotReady("The model fails on its own golden sample: the server answers again when it works.")

    def drain(self) -> None:
        """From now on answers say that the server is about to stop."""
        self.draining = True

    def warm_up(self) -> None:
        """Predict the golden sample, so that the first request is as fast as the next. Raises what the model raises."""
        for _ in range(3):
            started = time.perf_counter()
            if self.model.rehearse() is None:
                return
            self.batcher.learn(time.perf_counter() - started, 1)

    async def score(self, payload: Payload, params: Mapping[str, Any] | None = None) -> Any:
        """The model's output for one request.

        Raises:
            TooLarge: too many rows.
            BadPayload: the model cannot predict this payload, or `params` are wrong.
            ModelBroken: the model cannot even predict its golden sample.
            Overloaded, TimedOut: see Batcher.
        """
        if payload.rows > self.max_rows:
            raise TooLarge(f"The request has {payload.rows} rows: send at most {self.max_rows} a request.")
        checked = check_params(self.model.signature, params) if params or self.model.signature.params else None
        try:
            result = await self.batcher.submit(payload, checked)
        except ScoringError:
            raise
        except Exception as error:
            raise self._blame(error) from error
        self._broken = False
        return result

    def _blame(self, error: Exception) -> ScoringError:
        """Whose mistake a failed prediction is: the payload's, unless the golden sample fails too."""
        # One trace a second is enough to find the fault; one for each bad request would be an attacker's lever.
        now = time.monotonic()
        traced, self._traced = now - self._traced > 1.0, now
        logger.warning("the model raised %s", type(error).__name__, exc_info=error if traced else None)
        if self._fails_rehearsal():
            return ModelBroken("The model fails on its own golden sample too: look into the server's log.")
        return BadPayload(
            f"The model cannot predict this input ({type(error).__name__}: {' '.join(str(error).split())[:300]}): "
            "check the values against the model's signature."
        )

    def _fails_rehearsal(self) -> bool:
        now = time.monotonic()
        if now - self._rehearsed < _REHEARSAL_PAUSE:
            return self._broken
        try:
            self.model.rehearse()
        except Exception:
            logger.exception("the model fails on its golden sample")
            self._broken = True
        else:
            self._broken = False
        # Counted from the end: a rehearsal that takes long must not follow the last at once.
        self._rehearsed = time.monotonic()
        return self._broken

    def look_after(self) -> None:
        """Called every second: a broken model is tried again."""
        if self._broken:
            self._fails_rehearsal()


def written(write: Callable[[Any], bytes], result: Any) -> bytes:
    """Encode the model's output.

    Raises:
        ModelBroken: it has no such form.
    """
    try:
        return write(result)
    except UnwritableOutputError as error:
        raise ModelBroken(str(error)) from error
