"""Imports a bundle of 2 GB and compares it with `sha256sum` and `cp` of the same file, in the same run.

`python benchmarks/import/run.py [--gigabytes 2] [--folder DIR]` prints a line a step, the ratio of the rates (at least
0.5 is wanted) and the largest memory of the importing side (at most 300 MiB is wanted), and exits 1 if either is
missed. The bundle holds a joblib file and a pickle of numpy arrays, deflated, and an incompressible binary, stored,
as zip tools do it. Counted is the memory of every process of the import but the one that runs the bundle's own code
and loads its arrays; that one is shown apart. The environment is made beforehand.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024**2
WANTED_RATIO, WANTED_BYTES = 0.5, 300 * MIB

CODE = """\
import pickle

import joblib
import numpy as np


class CustomPreprocessor:
    def load(self, artifacts):
        self.first = joblib.load(artifacts / "first.joblib")
        with (artifacts / "second.pkl").open("rb") as file:
            self.second = pickle.load(file)
        self.size = (artifacts / "third.bin").stat().st_size

    def predict(self, frame):
        return frame["x"] * float(self.first[0]) + float(self.second[0])
"""
SAMPLE = {"columns": ["x"], "data": [[1.0], [2.0]]}


def build(archive: Path, total: int) -> None:
    """Write a bundle whose artifacts have `total` bytes."""
    import joblib
    import numpy as np

    random = np.random.default_rng(0)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        out.writestr("model_bundle/code/custom_preprocess.py", CODE)
        out.writestr("model_bundle/requirements.txt", "numpy\njoblib\n")
        out.writestr("model_bundle/sample_input.json", json.dumps(SAMPLE))
        with tempfile.TemporaryFile(dir=archive.parent) as plain:
            joblib.dump(random.normal(size=total // 4 // 8), plain)
            plain.seek(0)
            with out.open("model_bundle/artifacts/first.joblib", "w") as member:
                shutil.copyfileobj(plain, member, MIB)
        with out.open("model_bundle/artifacts/second.pkl", "w") as member:
            pickle.dump(random.normal(size=total // 4 // 4).astype("float32"), member, protocol=4)
        incompressible = zipfile.ZipInfo("model_bundle/artifacts/third.bin")
        with out.open(incompressible, "w", force_zip64=True) as member:
            for _ in range(total // 2 // MIB):
                member.write(random.bytes(MIB))


def import_bundle(archive: str, folder: Path, run: str) -> None:
    """Import a bundle and print the seconds of each step as JSON. Runs in a process of its own."""
    sys.path.insert(0, str(ROOT / "plugins"))
    from slipway.bundles import intake
    from slipway.bundles.limits import Limits, Site

    site = Site(
        store=str(folder / "store"),
        environments_dir=folder / "environments",
        scoring_home=ROOT / "include" / "scoring",
        python=getattr(sys, "_base_executable", sys.executable),
        limits=Limits(probe_memory_bytes=8 * 1024**3),
    )
    seconds = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[step] = time.perf_counter() - started

    with timed("check"):
        checked = intake.check(archive, name="benchmark", run_id=run, site=site)
    with timed("lock"):
        locked = intake.lock(checked, site=site)
    with timed("probe"):
        probed = intake.probe(checked, locked, site=site)
    with timed("commit"):
        intake.commit(checked, locked, probed, site=site)
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    peak = int(status["VmHWM"].split()[0]) * 1024
    print(json.dumps({"seconds": seconds, "peak": peak}))


class Memory(threading.Thread):
    """Samples the memory of a process and all below it; the process that runs the bundle's code is counted apart."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.importing = 0
        self.bundle = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        import psutil

        root = psutil.Process(self.pid)
        while not self.stopped.wait(0.25):
            importing = bundle = 0
            try:
                family = [root, *root.children(recursive=True)]
            except psutil.Error:
                return
            for process in family:
                try:
                    resident = process.memory_info().rss
                    arguments = process.cmdline()
                except psutil.Error:
                    continue
                if arguments[1:4] == ["-m", "slipway_scoring", "probe"]:
                    bundle += resident
                else:
                    importing += resident
            self.importing, self.bundle = max(self.importing, importing), max(self.bundle, bundle)


def run_import(archive: Path, folder: Path, run: str) -> tuple[dict[str, float], Memory]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--import", str(archive), "--folder", str(folder), "--run", run],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    memory = Memory(process.pid)
    memory.start()
    output, _ = process.communicate()
    memory.stopped.set()
    memory.join()
    if process.returncode:
        sys.exit(process.returncode)
    result = json.loads(output)
    memory.importing = max(memory.importing, result["peak"])  # exact for the one process, sampled for all together
    return result["seconds"], memory


def timed(*command: str | Path) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def benchmark(folder: Path, gigabytes: float, rounds: int) -> int:
    small, archive = folder / "small.zip", folder / "bundle.zip"
    build(small, 4 * MIB)
    run_import(small, folder, "warm-up")  # makes the environment
    started = time.perf_counter()
    build(archive, int(gigabytes * 10**9))
    size = archive.stat().st_size
    print(f"bundle            {size / 1e9:6.2f} GB zipped, built in {time.perf_counter() - started:.0f} s")
    ratios, peaks = [], []
    for number in range(rounds):
        timed("cat", archive)  # whoever comes first must not pay for the disk
        peer = timed("sha256sum", archive) + timed("cp", archive, folder / "copy.zip")
        (folder / "copy.zip").unlink()
        seconds, memory = run_import(archive, folder, f"round-{number}")
        shutil.rmtree(folder / "store")
        total = sum(seconds.values())
        ratios.append(peer / total)
        peaks.append(memory.importing)
        steps = ", ".join(f"{step} {duration:.1f} s" for step, duration in seconds.items())
        print(f"sha256sum and cp  {size / peer / 1e6:6.0f} MB/s ({peer:.1f} s)")
        print(f"import            {size / total / 1e6:6.0f} MB/s ({total:.1f} s: {steps})")
        print(
            f"memory            {memory.importing / MIB:6.0f} MiB importing, {memory.bundle / MIB:.0f} MiB the "
            "bundle's own"
        )
    ratio, peak = sorted(ratios)[len(ratios) // 2], max(peaks)
    print(f"ratio of rates    {ratio:6.2f} (median of {rounds}; at least {WANTED_RATIO} is wanted)")
    print(f"peak memory       {peak / MIB:6.0f} MiB (at most {WANTED_BYTES // MIB} is wanted)")
    return 0 if ratio >= WANTED_RATIO and peak <= WANTED_BYTES else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; needs five times the bundle's size")
    parser.add_argument("--import", dest="archive", help=argparse.SUPPRESS)
    parser.add_argument("--run", default="run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.archive:
        import_bundle(options.archive, options.folder, options.run)
        return 0
    with tempfile.TemporaryDirectory(prefix="slipway-benchmark-", dir=options.folder) as folder:
        return benchmark(Path(folder), options.gigabytes, options.rounds)


if __name__ == "__main__":
    sys.exit(main())
