"""What stops a command of the stack."""

from __future__ import annotations


class StackError(Exception):
    """One sentence that names the thing, the rule and the remedy; shown as it is, with no traceback."""
