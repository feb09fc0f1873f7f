"""Processes that are forked from one which has imported everything, so that they can be killed by the dozen."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

__all__ = ["start"]

# A process has one fork server, whose imports and environment are those of its first use: all users share this list.
PRELOADED = [
    "tests.sagemaker.preload",
    "tests.azureml.driving",
    "azure.ai.ml",
    "tests.kubernetes.test_lifecycle",
    "kubernetes.client",
    "kubernetes_asyncio.client",
]


def start(target: Callable[..., None], *arguments: Any) -> Any:
    """Start `target` in such a process, with this process's environment as it is now; return the process."""
    processes: Any = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    process = processes.Process(target=_in_environment, args=(dict(os.environ), target, arguments))
    # Before Python 3.12.4 the fork server has not this process's sys.path, and passes over what it cannot import.
    with mock.patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(sys.path)}):
        process.start()
    return process


def _in_environment(environment: dict[str, str], target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)
