"""The numbers of the scoring server against its peers, in one run, in turn: `python -m benchmarks.serving.run`.

Every server has one worker and its own defaults, serves the same model on loopback, and is asked by the same client.
Rates are the medians of the rounds; what is printed are ratios, because only those mean something elsewhere.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import load, models, peers
from benchmarks.serving.peers import WORK, Running

CSV, JSON, ARROW = "text/csv", "application/json", "application/vnd.apache.arrow.stream"
CONNECTIONS = 16


@dataclass(frozen=True)
class Line:
    """One row of the table: a measured ratio and its bound."""

    measure: str
    ratio: float
    bound: float
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the bound is kept."""
        return self.ratio <= self.bound if self.at_most else self.ratio >= self.bound

    def __str__(self) -> str:
        sign = "≤" if self.at_most else "≥"
        return f"| {self.measure} | {sign} {self.bound:.3g} | {self.ratio:.3g} | {'yes' if self.holds else '**no**'} |"


class Bench:
    """Measures in rounds: each round asks every server once, so that a noisy minute hits all of them."""

    def __init__(self, rounds: int, seconds: float) -> None:
        self._rounds = rounds
        self._seconds = seconds
        self.samples = models.make()

    def rates(self, servers: dict[Running, bytes]) -> dict[str, load.Rate]:
        """The median rate of each server under the one-row load."""
        found: dict[str, list[load.Rate]] = {server.peer.name: [] for server in servers}
        for server, body in servers.items():
            load.wrk(server, body, connections=CONNECTIONS, seconds=2)
        for number in range(self._rounds):
            for server, body in servers.items():
                rate = load.wrk(server, body, connections=CONNECTIONS, seconds=self._seconds)
                _note(f"round {number + 1}: {server.peer.name}: {rate.per_second:.0f}/s, p99 {rate.p99 * 1000:.2f} ms")
                found[server.peer.name].append(rate)
        return {
            name: load.Rate(
                statistics.median(rate.per_second for rate in rates),
                statistics.median(rate.p99 for rate in rates),
                sum(rate.failures for rate in rates),
            )
            for name, rates in found.items()
        }

    def small(self) -> list[Line]:
        """One row a request."""
        samples = self.samples
        with ExitStack() as stack:
            start = lambda peer: stack.enter_context(peers.running(peer))  # noqa: E731 -- three words, used nine times
            mine = start(peers.ours("ours", samples.linear))
            flow = start(peers.mlflow("mlflow", samples.linear))
            mine_bundle = start(peers.ours("ours-bundle", samples.bundle))
            flow_bundle = start(peers.mlflow("mlflow-bundle", samples.bundle))
            bento = start(peers.bentoml(samples.pickle))
            noop = start(peers.noop())
            found = self.rates(
                {
                    mine: samples.one_linear,
                    flow: samples.one_linear,
                    bento: samples.one_bento,
                    noop: samples.one_linear,
                    mine_bundle: samples.one_bundle,
                    flow_bundle: samples.one_bundle,
                }
            )
            for name, rate in found.items():
                if rate.failures:
                    raise SystemExit(f"{name} failed {rate.failures} requests: {WORK / f'{name}.log'} says why.")
            self._profile(mine, noop)
            one = found["ours"]
            return [
                Line("requests/s, one row, against MLflow", one.per_second / found["mlflow"].per_second, 50),
                Line(
                    "requests/s, one row, against BentoML with batching",
                    one.per_second / found["bentoml"].per_second,
                    20,
                ),
                Line("p99 latency, same load, against MLflow's", one.p99 / found["mlflow"].p99, 1 / 20, at_most=True),
                Line("share of a no-op app's requests/s", one.per_second / found["noop"].per_second, 0.6),
                Line(
                    "bundle on DataFrames, requests/s, against MLflow",
                    found["ours-bundle"].per_second / found["mlflow-bundle"].per_second,
                    20,
                ),
                Line(
                    "process start to ready, against MLflow", mine.seconds_to_ready / flow.seconds_to_ready, 1 / 8, True
                ),
                Line("resident memory when ready, against MLflow's", mine.ready_bytes / flow.ready_bytes, 1 / 2, True),
            ]

    def _profile(self, mine: Running, noop: Running) -> None:
        """CPU time of every busy thread for one request: shows where the difference to the no-op app goes."""
        for server, body in ((mine, self.samples.one_linear), (noop, self.samples.one_linear)):
            before = server.cpu_seconds()
            rate = load.wrk(server, body, connections=CONNECTIONS, seconds=3)
            spent = {name: total - before.get(name, 0) for name, total in server.cpu_seconds().items()}
            busy = sorted((round(s / (rate.per_second * 3) * 1e6, 1) for s in spent.values() if s > 0.05), reverse=True)
            _note(f"{server.peer.name}: µs of CPU a request, by thread: {busy}")

    def many(self) -> list[Line]:
        """Ten thousand rows a request."""
        samples = self.samples
        with ExitStack() as stack:
            mine = stack.enter_context(peers.running(peers.ours("ours", samples.linear)))
            flow = stack.enter_context(peers.running(peers.mlflow("mlflow", samples.linear)))
            times: dict[str, list[float]] = {}
            for _ in range(self._rounds):
                for name, server, body, headers in (
                    ("ours json", mine, samples.json, {"content-type": JSON}),
                    ("mlflow json", flow, samples.json, {"content-type": JSON}),
                    ("ours csv", mine, samples.csv, {"content-type": CSV}),
                    ("mlflow csv", flow, samples.csv, {"content-type": CSV}),
                    ("ours arrow", mine, samples.arrow, {"content-type": ARROW, "accept": ARROW}),
                ):
                    seconds = load.large(server, body, headers, seconds=self._seconds / 2)
                    _note(f"{name}: {models.ROWS / seconds:.0f} rows/s")
                    times.setdefault(name, []).append(seconds)
        best = {name: statistics.median(each) for name, each in times.items()}
        return [
            Line("rows/s at 10,000 rows a request, JSON, against MLflow", best["mlflow json"] / best["ours json"], 3),
            Line("rows/s at 10,000 rows a request, CSV, against MLflow", best["mlflow csv"] / best["ours csv"], 3),
            Line("rows/s at 10,000 rows, Arrow, against our own JSON", best["ours json"] / best["ours arrow"], 5),
        ]

    def overload(self) -> list[Line]:
        """Four times the load that a model of fixed cost can carry, at a pace that does not wait for answers."""
        body = {"inputs": {"x": [1.0]}}
        with peers.running(peers.ours("ours-slow", self.samples.slow)) as server:
            normal = load.wrk(server, json.dumps(body).encode(), connections=CONNECTIONS, seconds=self._seconds)
            peak = normal.per_second
            crowd = load.crowd(server, body, per_second=4 * peak, seconds=self._seconds)
            after = load.wrk(server, json.dumps(body).encode(), connections=CONNECTIONS, seconds=2)
            _note(
                f"peak {peak:.0f}/s, p99 {normal.p99 * 1000:.0f} ms; at 4×: {crowd.goodput:.0f}/s good, p99 "
                f"{crowd.p99 * 1000:.0f} ms, {crowd.refused} refused, {crowd.lost} lost; then {after.per_second:.0f}/s"
            )
        return [
            Line("goodput at four times the load, against the peak", crowd.goodput / peak, 0.8),
            Line("p99 of accepted requests at four times the load, against normal", crowd.p99 / normal.p99, 5, True),
            Line("lost requests at four times the load", crowd.lost, 0, True),
            Line("requests/s right after the overload, against before", after.per_second / peak, 0.9),
        ]


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> int:
    """Measure, print the table; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6, help="length of one measurement")
    parser.add_argument("--only", choices=["small", "many", "overload"], action="append")
    parser.add_argument("--json", type=Path, help="write the ratios here too")
    options = parser.parse_args()
    bench = Bench(options.rounds, options.seconds)
    lines: list[Line] = []
    for part in options.only or ["small", "many", "overload"]:
        lines += getattr(bench, part)()
    print("| measure | bound | measured | holds |\n| --- | --- | --- | --- |")
    print("\n".join(map(str, lines)))
    if options.json:
        options.json.write_text(json.dumps({line.measure: line.ratio for line in lines}, indent=1))
    return int(not all(line.holds for line in lines))


if __name__ == "__main__":
    sys.exit(main())
