"""Every setting of Slipway, read in one place from the `[slipway]` section of Airflow's configuration.

Each can be given as an environment variable `AIRFLOW__SLIPWAY__<NAME>`. Values are read when asked for, so
that a test or a DAG's process sees the environment it runs in.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = [
    "allow_source_distributions",
    "base_image",
    "bundle_store",
    "docker_host",
    "environments_dir",
    "golden_tolerance",
    "kill_seconds",
    "kubernetes_unschedulable_seconds",
    "masked_dirs",
    "max_archive_bytes",
    "max_files",
    "max_ratio",
    "max_unpacked_bytes",
    "model_bundles_dir",
    "model_host_home",
    "poll_seconds",
    "probe_cpu_seconds",
    "probe_memory_bytes",
    "probe_timeout_seconds",
    "python",
    "ready_timeout_seconds",
    "scores_dir",
    "scoring_home",
    "spark_archives",
    "spark_home",
    "spark_jar_dirs",
    "spark_settings_allowed",
    "workflow_dirs",
    "workflows_dir",
]

_GIB = 1024**3


def bundle_store() -> str:
    """URI of the bundle store: a folder in anything that Airflow's ObjectStoragePath reads and writes."""
    return _text("bundle_store", (_home() / "bundles").as_uri())


def environments_dir() -> Path:
    """Folder of the models' virtual environments, one for each lock digest; shared with the model host."""
    return Path(_text("environments_dir", str(_home() / "environments")))


def scoring_home() -> Path:
    """Folder of the scoring server's package (`include/scoring` of the checkout)."""
    return Path(_text("scoring_home", str(Path(__file__).resolve().parents[2] / "include" / "scoring")))


def model_host_home() -> Path:
    """Folder of the model host's package, whose front door stands before the containers of an endpoint."""
    return Path(_text("model_host_home", str(_include() / "model_host")))


def model_bundles_dir() -> Path:
    """Folder of the skeleton and the sample bundles (`include/model_bundles` of the checkout)."""
    return Path(_text("model_bundles_dir", str(_include() / "model_bundles")))


def python() -> str:
    """Interpreter that the models' environments are made with; its version is part of every lock."""
    return _text("python", getattr(sys, "_base_executable", None) or sys.executable)


def base_image(python: str) -> str:
    """Reference of the image that scoring images are built on; `{python}` in it stands for the model's version."""
    return _text("base_image", "python:{python}-slim-bookworm").replace("{python}", python)


def docker_host() -> str:
    """Address of the Docker Engine where no connection names one: `$DOCKER_HOST`, or this machine's socket."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def max_archive_bytes() -> int:
    """Largest zip that import_bundle takes, in bytes."""
    return _number("max_archive_bytes", 20 * _GIB)


def max_unpacked_bytes() -> int:
    """Largest total size of a bundle's files, in bytes."""
    return _number("max_unpacked_bytes", 40 * _GIB)


def max_files() -> int:
    """Largest number of files in a bundle."""
    return _number("max_files", 10_000)


def max_ratio() -> int:
    """Largest ratio of unpacked to packed size of a file; more is taken for a zip bomb."""
    return _number("max_ratio", 200)


def probe_timeout_seconds() -> int:
    """Longest time for loading a bundle and predicting its sample, in seconds of wall clock."""
    return _number("probe_timeout_seconds", 300)


def probe_cpu_seconds() -> int:
    """Most CPU time that a probe may use, in seconds over all its threads."""
    return _number("probe_cpu_seconds", 600)


def probe_memory_bytes() -> int:
    """Most memory that a probe may use, in bytes."""
    return _number("probe_memory_bytes", 4 * _GIB)


def ready_timeout_seconds() -> int:
    """Longest time from asking for a deployment until it is ready: fetching, installing, starting. In seconds."""
    return _number("ready_timeout_seconds", 3000)


def poll_seconds() -> float:
    """Longest pause between two looks at what a cloud is doing, in seconds; the first looks come sooner."""
    return float(_text("poll_seconds", "20"))


def allow_source_distributions() -> bool:
    """Whether a bundle's requirements may be built from source, which runs their authors' code."""
    return _text("allow_source_distributions", "false").lower() in {"1", "true", "yes", "on"}


def golden_tolerance() -> float:
    """Relative difference up to which a float of the golden sample's output counts as equal."""
    return float(_text("golden_tolerance", "1e-6"))


def kubernetes_unschedulable_seconds() -> int:
    """How long a pod may be unschedulable: a cluster that scales adds a node meanwhile. In seconds."""
    return _number("kubernetes_unschedulable_seconds", 180)


def kill_seconds() -> int:
    """Longest time from a task's end in Airflow's database until its process is gone, in seconds.

    A worker asks at its next heartbeat but one at the latest, and kills what has not ended five seconds later.
    """
    from airflow.sdk.configuration import conf

    return _number("kill_seconds", 2 * int(conf.getint("workers", "min_heartbeat_interval", fallback=5)) + 6)


def masked_dirs() -> list[Path]:
    """Folders that a probe must not see: Airflow's home, and what `masked_dirs` lists (separated by ':')."""
    listed = [Path(part) for part in _text("masked_dirs", "").split(":") if part]
    return [Path(os.environ.get("AIRFLOW_HOME", Path.home() / "airflow")), *listed]


def workflows_dir() -> Path:
    """Folder of the definitions of score workflows."""
    return Path(_text("workflows_dir", str(_include() / "workflows")))


def scores_dir() -> str:
    """Where score workflows write what they give no absolute path for: a folder or URI that Spark writes to."""
    return _text("scores_dir", str(_home() / "scores")).rstrip("/")


def workflow_dirs() -> list[str]:
    """Folders and URI prefixes (separated by commas) below which a caller's `path` parameters may lead.

    What a definition's own text names is not held to them: it is code, and reviewed as such.
    """
    return [*_list("workflow_dirs", str(_home() / "data")), str(workflows_dir()), scores_dir()]


def spark_home() -> Path:
    """Folder of the Spark job's package (`include/spark` of the checkout)."""
    return Path(_text("spark_home", str(_include() / "spark")))


def spark_archives() -> Path:
    """Folder of the archives that are sent to a cluster's executors, and of plans while they run."""
    return Path(_text("spark_archives", str(_home() / "spark")))


def spark_jar_dirs() -> list[str]:
    """Folders (separated by commas) whose jars callers may name in `libJars`."""
    return _list("spark_jar_dirs", str(_home() / "jars"))


def spark_settings_allowed() -> list[str]:
    """Further Spark settings (separated by commas, `*` stands for anything) that callers may set in `sparkConfig`."""
    return _list("spark_settings_allowed", "")


def _include() -> Path:
    return Path(__file__).resolve().parents[2] / "include"


def _list(name: str, default: str) -> list[str]:
    return [part.strip() for part in _text(name, default).split(",") if part.strip()]


def _home() -> Path:
    # Not below Airflow's home: that is masked while a bundle is probed.
    return Path(os.environ.get("SLIPWAY_HOME", Path.home() / "slipway")).resolve()


def _text(name: str, default: str) -> str:
    from airflow.sdk.configuration import conf

    return str(conf.get("slipway", name, fallback=default))


def _number(name: str, default: int) -> int:
    from airflow.sdk.configuration import conf

    return int(conf.getint("slipway", name, fallback=default))
