"""What the server counts, and its Prometheus text (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from slipway_scoring.scoreboard import FIRST_FREE, READY, WIDTH, Row, Scoreboard

STATUSES = (200, 400, 401, 404, 405, 406, 413, 415, 429, 500, 503, 504)
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0, 16384.0)


class Histogram:
    """Slots of one histogram: a count for each bucket (the last is +Inf), then the sum."""

    def __init__(self, start: int, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.start = start
        self.sum = start + len(bounds) + 1
        self.end = self.sum + 1

    def observe(self, row: Row, value: float) -> None:
        """Count one value."""
        row[self.start + bisect_left(self.bounds, value)] += 1
        row[self.sum] += value

    def render(self, board: Scoreboard, name: str, labels: str = "") -> Iterator[str]:
        """The lines of all buckets, summed over the workers."""
        count = 0.0
        comma = "," if labels else ""
        for number, bound in enumerate((*self.bounds, "+Inf")):
            count += board.total(self.start + number)
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {count:g}'
        braces = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{braces} {board.total(self.sum):.9g}"
        yield f"{name}_count{braces} {count:g}"


MAX_ROUTES = 32


class Meters:
    """One worker's meters, in its row of the scoreboard; renders those of all workers.

    Args:
        board: the shared memory.
        worker: whose row this process writes.
        identity: labels that say which model this is.
    """

    def __init__(self, board: Scoreboard, worker: int, identity: dict[str, str]) -> None:
        self._board = board
        self._row = board.row(worker)
        self._routes: dict[str, int] = {}
        self._identity = ",".join(f'{name}="{_escape(value)}"' for name, value in identity.items())
        self._status = {status: number for number, status in enumerate(STATUSES)}
        self._queue, self._in_flight, self._requests = FIRST_FREE, FIRST_FREE + 1, FIRST_FREE + 2
        self._predictions = Histogram(self._requests + MAX_ROUTES * (len(STATUSES) + 1), SECONDS)
        self._batch_requests = Histogram(self._predictions.end, SIZES)
        self._batch_rows = Histogram(self._batch_requests.end, SIZES)
        self._latency = [Histogram(self._batch_rows.end, SECONDS)]
        while len(self._latency) < MAX_ROUTES:
            self._latency.append(Histogram(self._latency[-1].end, SECONDS))
        if self._latency[-1].end > WIDTH:
            raise ValueError(f"the meters need {self._latency[-1].end} slots, a row has {WIDTH}")
        self.levels(0, 0)

    def number(self, route: str) -> int:
        """The number of a path template, for `request`. Every worker asks in the same order, so the numbers agree."""
        if len(self._routes) == MAX_ROUTES:
            raise ValueError(f"there are more than {MAX_ROUTES} routes")
        return self._routes.setdefault(route, len(self._routes))

    def request(self, route: int, status: int, seconds: float) -> None:
        """Count one answered request."""
        slot = self._status.get(status, len(STATUSES))
        self._row[self._requests + route * (len(STATUSES) + 1) + slot] += 1
        self._latency[route].observe(self._row, seconds)

    def batch(self, requests: int, rows: int, seconds: float) -> None:
        """Count one prediction."""
        self._predictions.observe(self._row, seconds)
        self._batch_requests.observe(self._row, requests)
        self._batch_rows.observe(self._row, rows)

    def levels(self, queue: int, in_flight: int) -> None:
        """Note how many requests wait and how many are open in this worker."""
        self._row[self._queue] = queue
        self._row[self._in_flight] = in_flight

    def render(self) -> bytes:
        """The text of all metrics, summed over the workers."""
        board = self._board
        lines = [
            "# HELP slipway_model_info The model that is served.",
            "# TYPE slipway_model_info gauge",
            f"slipway_model_info{{{self._identity}}} 1",
            "# HELP slipway_workers_ready Worker processes that take requests.",
            "# TYPE slipway_workers_ready gauge",
            f"slipway_workers_ready {sum(board.state(n) == READY for n in range(board.workers))}",
            "# HELP slipway_queue_depth Requests that wait for the model.",
            "# TYPE slipway_queue_depth gauge",
            f"slipway_queue_depth {board.total(self._queue):g}",
            "# HELP slipway_requests_in_flight Requests that are being answered.",
            "# TYPE slipway_requests_in_flight gauge",
            f"slipway_requests_in_flight {board.total(self._in_flight):g}",
        ]
        lines += self._counters("slipway_requests_total", "Requests answered.", 0)
        lines += self._counters("slipway_errors_total", "Requests refused or failed.", 400)
        lines += ["# HELP slipway_request_seconds Time from request to answer.",
                  "# TYPE slipway_request_seconds histogram"]  # fmt: skip
        for route, number in self._routes.items():
            lines += self._latency[number].render(board, "slipway_request_seconds", f'route="{_escape(route)}"')
        for name, help_text, histogram in (
            ("slipway_prediction_seconds", "Time that the model took for one batch.", self._predictions),
            ("slipway_batch_requests", "Requests joined in one batch.", self._batch_requests),
            ("slipway_batch_rows", "Rows in one batch.", self._batch_rows),
        ):
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} histogram", *histogram.render(board, name)]
        return ("\n".join(lines) + "\n").encode()

    def _counters(self, name: str, help_text: str, from_status: int) -> Iterator[str]:
        yield f"# HELP {name} {help_text}"
        yield f"# TYPE {name} counter"
        for route, number in self._routes.items():
            for status, slot in (*self._status.items(), ("other", len(STATUSES))):
                if isinstance(status, int) and status < from_status:
                    continue
                value = self._board.total(self._requests + number * (len(STATUSES) + 1) + slot)
                if value:
                    yield f'{name}{{route="{_escape(route)}",status="{status}"}} {value:g}'


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
