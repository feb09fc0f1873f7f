"""What a test may need of the machine, and what is said at the end of those that did not run.

A test says what it needs: `@pytest.mark.requires("wrk")`. Where that is missing, the test is skipped and the run's
last lines say what to install; under CI=true a skipped test is a failed one, so nothing goes missing unseen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Generator
from ctypes.util import find_library
from dataclasses import dataclass
from functools import cache

import pytest

# MLflow's server would start seven processes for jobs that nothing here submits, and each imports all of MLflow.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"

IN_CI = os.environ.get("CI", "").lower() == "true"


@dataclass(frozen=True)
class Requirement:
    """Something that this machine may have: how to see that it does, and how to get it."""

    is_there: Callable[[], bool]
    install: str


def _command(name: str, package: str | None = None) -> Requirement:
    return Requirement(lambda: shutil.which(name) is not None, f"apt-get install {package or name}")


def _runs(*command: str) -> bool:
    """Whether a command can be run here, and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


# One line makes a new one known. `.ci/run` installs what the tests that are there name.
REQUIREMENTS = {
    "chromium": _command("chromium"),
    "curl": _command("curl"),
    "docker": Requirement(
        lambda: _runs("docker", "image", "inspect", "slipway-test/base:bookworm"),
        "apt-get install docker.io iptables debootstrap, start dockerd, and run .ci/base-image",
    ),
    "docker-compose": _command("docker-compose"),
    "root": Requirement(lambda: os.geteuid() == 0, "run the tests as root: they start an engine and kill containers"),
    "docker-registry": _command("docker-registry"),
    "java": _command("java", "openjdk-17-jre-headless"),
    "npm": _command("npm"),
    "openssl": _command("openssl"),
    "sshd": Requirement(
        # Not on every user's PATH.
        lambda: shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None,
        "apt-get install openssh-server",
    ),
    "libgomp": Requirement(lambda: find_library("gomp") is not None, "apt-get install libgomp1"),
    "tmpfs mounts": Requirement(
        lambda: _runs("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"), "run the tests as root"
    ),
    "network namespaces": Requirement(
        lambda: _runs("unshare", "--user", "--map-root-user", "--net", "true"),
        "a kernel that lets this user make namespaces (sysctl user.max_user_namespaces)",
    ),
}


@cache
def _is_there(name: str) -> bool:
    return REQUIREMENTS[name].is_there()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", f"requires(name, …): what the test needs of the machine: {', '.join(REQUIREMENTS)}"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose needs are not met; an unknown need is an error in the test."""
    for mark in item.iter_markers("requires"):
        for name in mark.args:
            if name not in REQUIREMENTS:
                raise pytest.UsageError(f"{item.nodeid} requires '{name}', which tests/conftest.py does not know.")
            if not _is_there(name):
                raise pytest.skip.Exception(f"needs {name}: {REQUIREMENTS[name].install}", _use_item_location=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, count a skipped test as failed: there, everything must be there."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {_reason(report)}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped, and what would enable it."""
    skipped: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        skipped[_reason(report)].append(report.nodeid)
    if skipped:
        terminalreporter.section("not tested here")
        for reason, tests in sorted(skipped.items()):
            terminalreporter.write_line(f"{len(tests)} skipped, {reason}")


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)
