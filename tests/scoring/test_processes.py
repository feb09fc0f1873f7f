"""Workers share a port, are replaced when they crash or hang, and lose no request at the end."""

from __future__ import annotations

import os
import signal
import socket
import stat
import time
from pathlib import Path

import psutil
import pytest
import requests

from tests.scoring.load import Load, Wire, message
from tests.scoring.models import IRIS_ROW, bundle_model
from tests.scoring.servers import Server, free_port

ONE = {"instances": [IRIS_ROW]}


def _deed(seconds: float, deed: str = "") -> dict[str, object]:
    return {"dataframe_records": [{"seconds": seconds, "deed": deed}]}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_under_load_loses_no_request(iris_directory: Path, workers: str) -> None:
    with Server(iris_directory, "--workers", workers) as server:
        load = Load(server.port, "/invocations", ONE, clients=12).start()
        time.sleep(1.5)
        assert server.stop() == 0
        load.join()
    assert load.lost == []
    assert set(load.answers) == {(200, b'{"predictions":[0]}')}
    assert sum(load.answers.values()) > 500


def test_sigterm_lets_a_long_request_finish(faulty_directory: Path) -> None:
    with Server(faulty_directory) as server:
        load = Load(server.port, "/invocations", _deed(1.5), clients=1)
        load.start()
        time.sleep(0.4)
        load.stop.set()
        started = time.monotonic()
        assert server.stop() == 0
        assert 0.5 < time.monotonic() - started < 6
        load.join()
    assert load.lost == []
    assert load.answers == {(200, b'{"predictions":[1.5]}'): 1}


def test_draining_closes_connections_politely(iris_directory: Path) -> None:
    with Server(iris_directory) as server:
        wire = Wire(server.port)
        request = message("/invocations", ONE, server.port)
        assert wire.ask(request)[2] is False
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert wire.ask(request) == (200, b'{"predictions":[0]}', True)
        assert server.process.wait(10) == 0


def test_sigterm_while_the_model_loads(tmp_path: Path) -> None:
    code = "import time\ntime.sleep(60)\nclass CustomPreprocessor:\n    def predict(self, frame): ...\n"
    with Server(bundle_model(tmp_path / "m", code), ready=False) as server:
        while not server.workers():
            time.sleep(0.05)
        time.sleep(1)
        assert server.stop() == 0


def test_the_drain_time_is_a_bound(faulty_directory: Path) -> None:
    with Server(faulty_directory, "--drain-time", "1") as server:
        load = Load(server.port, "/invocations", _deed(30), clients=1).start()
        time.sleep(0.3)
        load.stop.set()
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 5
        load.join()


def test_workers_share_a_port(iris_directory: Path) -> None:
    with Server(iris_directory, "--workers", "2") as server:
        deadline = time.monotonic() + 30
        while "slipway_workers_ready 2" not in server.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert len(server.workers()) == 2
        for _ in range(60):
            assert server.post("/invocations", ONE).status_code == 200
        text = server.get("/metrics").text
        assert 'slipway_requests_total{route="/invocations",status="200"} 60' in text
        server.stop()
        assert {line["worker"] for line in server.log_lines() if line.get("path") == "/invocations"} == {0, 1}


def test_a_crashed_worker_is_replaced(faulty_directory: Path) -> None:
    with Server(faulty_directory) as server:
        (first,) = server.workers()
        with pytest.raises(requests.ConnectionError):
            server.post("/invocations", _deed(0, "die"))
        # The listening socket outlives the worker: the next client waits in its queue, and is served.
        assert server.post("/invocations", _deed(0)).json() == {"predictions": [0.0]}
        (second,) = server.workers()
        assert first.pid != second.pid
        os.kill(second.pid, signal.SIGKILL)
        assert server.post("/invocations", _deed(0)).status_code == 200


@pytest.mark.parametrize("deed", [_deed(0, "spin"), _deed(1000)])
def test_a_quick_model_that_hangs_is_broken_off(faulty_directory: Path, deed: dict[str, object]) -> None:
    with Server(faulty_directory, "--time-limit", "0.5") as server:
        workers = server.workers()
        answer = server.post("/invocations", deed)
        assert (answer.status_code, answer.json()["error_code"]) == (504, "DEADLINE_EXCEEDED")
        assert server.post("/invocations", _deed(0)).status_code == 200
        assert server.workers() == workers


def _wait_for_another_worker(server: Server, first: psutil.Process) -> None:
    deadline = time.monotonic() + 20
    while first in server.workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.wait_ready()
    assert server.post("/invocations", _deed(0)).status_code == 200


def test_a_worker_that_cannot_be_broken_off_is_replaced(faulty_directory: Path) -> None:
    with Server(faulty_directory, "--hang-limit", "1.5", "--time-limit", "0.5") as server:
        (first,) = server.workers()
        with pytest.raises(requests.ConnectionError):
            server.post("/invocations", _deed(1000, "cling"))
        _wait_for_another_worker(server, first)


def test_a_slow_model_that_hangs_is_replaced(faulty_directory: Path) -> None:
    with Server(faulty_directory, "--hang-limit", "1.5", "--time-limit", "0.5") as server:
        (first,) = server.workers()
        for _ in range(2):
            assert server.post("/invocations", _deed(0.2)).status_code == 200
        assert server.post("/invocations", _deed(1000)).status_code == 504
        assert server.get("/ping").status_code == 200  # In its thread it does not stop the loop.
        _wait_for_another_worker(server, first)


def test_workers_die_with_their_supervisor(iris_directory: Path) -> None:
    with Server(iris_directory) as server:
        (worker,) = server.workers()
        server.process.kill()
        server.process.wait()
        worker.wait(5)
        with pytest.raises(requests.ConnectionError):
            server.get("/ping")


def test_a_unix_socket(iris_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "scoring.sock"
    for _ in range(2):  # The second finds what the killed first one left behind.
        with Server(iris_directory, "--uds", str(path), ready=False) as server:
            deadline = time.monotonic() + 30
            while True:
                try:
                    with socket.socket(socket.AF_UNIX) as client:
                        client.connect(str(path))
                        client.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
                        assert client.recv(1000).startswith(b"HTTP/1.1 200")
                    break
                except OSError:
                    assert time.monotonic() < deadline, server.log()
                    time.sleep(0.05)
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            server.process.kill()
            server.process.wait()
    with Server(iris_directory, "--uds", str(path), ready=False) as server:
        while "ready on" not in server.log():
            time.sleep(0.05)
        assert server.stop() == 0
        assert not path.exists()


def _fails(directory: Path, *arguments: str, **env: str) -> tuple[int, str]:
    with Server(directory, *arguments, ready=False, **env) as server:
        return server.process.wait(60), server.log().strip()


def test_a_taken_port(iris_directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, log = _fails(iris_directory, "--port", str(port))
    assert status == 2
    assert f"127.0.0.1:{port}" in log
    assert "in use" in log
    assert "\n" not in log


def test_models_that_cannot_be_served(tmp_path: Path, iris_directory: Path) -> None:
    status, log = _fails(tmp_path / "nothing")
    assert (status, "no MLmodel file" in log, "\n" in log) == (3, True, False)
    broken = bundle_model(tmp_path / "broken", "import nothing_like_that\n")
    status, log = _fails(broken)
    assert (status, "nothing_like_that" in log, "\n" in log) == (3, True, False)
    status, log = _fails(iris_directory, "--workers", "none")
    assert (status, "--workers" in log) == (2, True)
    status, log = _fails(iris_directory, SLIPWAY_SCORING_TIME_LIMIT="soon")
    assert (status, "$SLIPWAY_SCORING_TIME_LIMIT" in log) == (2, True)


def test_a_model_that_fails_its_golden_sample_is_not_served(tmp_path: Path) -> None:
    code = "class CustomPreprocessor:\n    def predict(self, frame):\n        raise OSError('no disk')\n"
    golden = {"input": {"inputs": {"x": [1.0]}}, "output": [1.0]}
    status, log = _fails(bundle_model(tmp_path / "m", code, golden=golden))
    assert status == 3
    assert "golden sample" in log
    assert "no disk" in log


def test_sagemakers_and_azures_environment(iris_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "azure").mkdir()
    (tmp_path / "azure" / "iris").symlink_to(iris_directory)
    port = free_port()
    with Server(iris_directory, ready=False) as server:
        server.stop()
    server = Server(
        iris_directory, ready=False, AZUREML_MODEL_DIR=str(tmp_path / "azure"), SAGEMAKER_BIND_TO_PORT=str(port)
    )
    server._arguments.clear()
    server.port, server.url = port, f"http://127.0.0.1:{port}"
    with server:
        server.wait_ready()
        assert server.post("/invocations", ONE).json() == {"predictions": [0]}
