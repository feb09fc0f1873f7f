"""Running published sample code for real, as somebody who pastes it into a new shell."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from slipway_stack.errors import StackError

_TIMEOUT_SECONDS = 60.0


def run_curl(code: str) -> Any:
    """Run a curl sample in a plain shell and return the predictions; None where there is no curl.

    Raises `StackError` if it fails or answers something else than predictions.
    """
    if shutil.which("curl") is None:
        return None
    answer = _run(["sh", "-c", code], "curl")
    try:
        return json.loads(answer)["predictions"]
    except (ValueError, KeyError, TypeError):
        raise StackError(f"The curl sample answers no predictions but: {_shown(answer)}") from None


def run_python(code: str) -> Any:
    """Run a Python sample in an interpreter that sees no installed package, and return the predictions.

    Raises `StackError` if it fails or prints something else than predictions.
    """
    interpreter = getattr(sys, "_base_executable", None) or sys.executable
    answer = _run([interpreter, "-I", "-c", code], "Python")
    try:
        return ast.literal_eval(answer.strip())
    except (ValueError, SyntaxError):
        raise StackError(f"The Python sample prints no predictions but: {_shown(answer)}") from None


def _run(command: list[str], language: str) -> str:
    with tempfile.TemporaryDirectory() as elsewhere:
        try:
            done = subprocess.run(
                command,
                cwd=elsewhere,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": elsewhere},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise StackError(f"The {language} sample has no answer after {_TIMEOUT_SECONDS:.0f} s.") from None
    if done.returncode != 0:
        raise StackError(f"The {language} sample fails: {_shown(done.stderr or done.stdout)}")
    return done.stdout


def _shown(text: str) -> str:
    lines = text.strip().splitlines() or ["nothing"]
    return lines[-1][:300]
