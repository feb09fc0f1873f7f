"""The stack's keys are made once, and only their owner reads them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from slipway_stack.keys import keys, login_file
from slipway_stack.settings import Stack


def test_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    stack = Stack(tmp_path, {})
    made = keys(stack)
    assert keys(stack) == made
    assert json.loads(login_file(stack).read_text()) == {"admin": made.password}
    assert stat.S_IMODE(stack.secrets.stat().st_mode) == 0o700
    for path in stack.secrets.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_two_stacks_have_different_keys(tmp_path: Path) -> None:
    one, other = keys(Stack(tmp_path / "one", {})), keys(Stack(tmp_path / "other", {}))
    assert not set(vars(one).values()) & set(vars(other).values())
