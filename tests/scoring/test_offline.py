"""The offline scorer: every format, rejects with reasons, atomic parts, resuming, constant memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.scoring.models import IRIS, random_rows
from tests.scoring.servers import command, environment


def _table(rows: int) -> pd.DataFrame:
    frame = pd.DataFrame(random_rows(rows, 4), columns=IRIS)
    frame.insert(0, "id", range(rows))
    frame["note"] = ['say "hi", twice\nand again' if number % 50 == 0 else "plain" for number in range(rows)]
    return frame


def _score(model: Path, source: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return command("score", "--model", str(model), "--input", str(source), "--output", str(output), *more)


def _read(folder: Path) -> pd.DataFrame:
    readers = {".csv": pd.read_csv, ".jsonl": lambda path: pd.read_json(path, lines=True), ".parquet": pd.read_parquet}
    return pd.concat([readers[part.suffix](part) for part in sorted(folder.glob("part-*"))], ignore_index=True)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_each_format(tmp_path: Path, iris_directory: Path, suffix: str) -> None:
    frame = _table(250)
    source = tmp_path / f"in{suffix}"
    if suffix == ".csv":
        frame.to_csv(source, index=False)
    elif suffix == ".jsonl":
        frame.to_json(source, orient="records", lines=True)
    else:
        frame.to_parquet(source)
    done = _score(iris_directory, source, tmp_path / "out", "--part-rows", "100")
    assert done.returncode == 0, done.stderr
    assert "250 rows scored, 0 rejected" in done.stdout
    assert "100%" in done.stderr
    folder = tmp_path / "out" / f"in{suffix}"
    assert [path.name for path in sorted(folder.iterdir())] == [f"part-{n:06}{suffix}" for n in range(3)]
    scored = _read(folder)
    pd.testing.assert_frame_equal(scored[frame.columns], frame, check_exact=False)
    from slipway_scoring.loaders import load

    model = load(iris_directory)
    assert scored["prediction"].tolist() == model.call(frame[IRIS].to_numpy(), None).tolist()


def test_rejects_have_reasons(tmp_path: Path, iris_directory: Path) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    lines = _table(20).drop(columns="note").to_csv(index=False).splitlines()
    lines[3] = "2,x,1,1,1"
    lines[7] = "short"
    (source / "a.csv").write_text("\n".join(lines) + "\n")
    for number, name in enumerate(("x.1.csv", "x_1.csv")):  # names that differ in a dot alone
        (source / name).write_text(f"{lines[0]}\n{number},1,1,1,1\n")
    (source / "deep" / "b.jsonl").write_text('{"sepal_length": 1}\n{bad\n')
    done = _score(iris_directory, source, tmp_path / "out", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert "20 rows scored, 4 rejected, 4 files" in done.stdout
    assert [_read(tmp_path / "out" / name)["id"].tolist() for name in ("x.1.csv", "x_1.csv")] == [[0], [1]]
    rejects = [json.loads(line) for line in (tmp_path / "out/a.csv/rejects-000000.jsonl").read_text().splitlines()]
    assert [reject["record"] for reject in rejects][1] == "short"
    assert rejects[0]["record"]["sepal_length"] == "x"
    assert all(reject["reason"] for reject in rejects)
    rejects = [
        json.loads(line) for line in (tmp_path / "out/deep/b.jsonl/rejects-000000.jsonl").read_text().splitlines()
    ]
    assert "sepal_width" in rejects[0]["reason"]
    assert rejects[1]["record"] == "{bad"


def test_a_killed_run_goes_on(tmp_path: Path, iris_directory: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out"
    frame = _table(120_000).drop(columns="note")
    frame.to_csv(source, index=False)
    arguments = ["score", "--model", str(iris_directory), "--input", str(source), "--output", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-m", "slipway_scoring", *arguments, "--part-rows", "2000"], env=environment()
    )
    folder = output / "in.csv"
    while not folder.is_dir() or len(list(folder.glob("part-*.csv"))) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.csv")}
    done = _score(iris_directory, source, output, "--part-rows", "2000")
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} parts were there already" in done.stdout
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert not list(output.rglob("*.partial"))
    assert _read(folder)["id"].tolist() == list(range(len(frame)))


def test_another_jobs_output_is_left_alone(tmp_path: Path, iris_directory: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out"
    _table(5).to_csv(source, index=False)
    output.mkdir()
    (output / "mine.txt").touch()
    done = _score(iris_directory, source, output)
    assert (done.returncode, "not empty" in done.stderr) == (3, True)
    (output / "mine.txt").unlink()
    assert _score(iris_directory, source, output).returncode == 0
    done = _score(iris_directory, source, output, "--part-rows", "2")
    assert (done.returncode, "another run" in done.stderr) == (3, True)
    text = source.read_text()
    source.write_text(f"{text[:-2]}#\n")  # as long as before
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 10**9))
    done = _score(iris_directory, source, output)
    assert (done.returncode, "unchanged input" in done.stderr) == (3, True)
    done = _score(iris_directory, tmp_path / "none", output)
    assert (done.returncode, "no input" in done.stderr) == (3, True)


def test_memory_is_constant(tmp_path: Path, iris_directory: Path) -> None:
    def peak(rows: int) -> float:
        source, output = tmp_path / f"{rows}.csv", tmp_path / f"out{rows}"
        _table(rows).drop(columns="note").to_csv(source, index=False)
        process = psutil.Popen(
            [sys.executable, "-m", "slipway_scoring", "score", "--model", str(iris_directory), "--input", str(source),
             "--output", str(output), "--part-rows", "5000", "--quiet"],
            env=environment(), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        highest = 0
        while process.poll() is None:
            try:
                highest = max(highest, process.memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.005)
        process.wait()
        return highest / 2**20

    small, large = peak(10_000), peak(200_000)
    assert large < small + 25, (small, large)
