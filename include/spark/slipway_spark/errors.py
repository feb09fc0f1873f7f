"""What can go wrong in a job, as one sentence, and Spark's own errors in those terms."""

from __future__ import annotations

import re

__all__ = ["JobError", "WrongInput", "explain"]


class JobError(Exception):
    """The job failed for a reason that may pass: a node was lost, a disk is full."""


class WrongInput(JobError):
    """The definition, the data or the model is wrong, and would be wrong again."""


# Conditions of Spark's that no retry heals: https://spark.apache.org/docs/latest/sql-error-conditions.html
_WRONG = re.compile(
    r"^(PATH_NOT_FOUND|UNABLE_TO_INFER_SCHEMA|UNRESOLVED_|PARSE_|DATATYPE_MISMATCH|FAILED_READ_FILE|CAST_|INVALID_|"
    r"MALFORMED_|TABLE_OR_VIEW_NOT_FOUND|UNBOUND_SQL_PARAMETER|MISSING_|NUMERIC_|DIVIDE_BY_ZERO|AMBIGUOUS_|COLUMN_|"
    r"UNSUPPORTED_|CANNOT_|DUPLICATE|ARITHMETIC_OVERFLOW|CONVERSION_|TABLE_|_LEGACY_ERROR|DATA_SOURCE_NOT_FOUND|"
    r"INCOMPATIBLE_|NOT_|INCORRECT_|GROUP|NUM_)"
)
_MODEL = re.compile(r"ModelProcessError: (.+)")
_FULL = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
_FILE = re.compile(r"(?:file:|hdfs:|s3a?:|abfss?:)/+[^\s,;'\"]+")


def explain(error: Exception) -> JobError:
    """Return what a failure of Spark's means for the user."""
    if isinstance(error, JobError):
        return error
    text = str(error)
    model = _MODEL.search(text)
    if model:
        return JobError(model.group(1).strip())
    if _FULL.search(text):
        return JobError("The disk is full: nothing was published; free space where the output and Spark's spill go.")
    condition = _condition(error)
    line = _first_line(text)
    if condition.startswith("FAILED_READ_FILE"):
        file = _FILE.search(text)
        return WrongInput(
            f"The file {file.group(0) if file else 'of an input'} cannot be read as the node's format and schema say "
            f"({condition}): repair or remove it, or correct the node."
        )
    if condition and _WRONG.match(condition):
        return WrongInput(line)
    return JobError(f"Spark failed ({type(error).__name__}): {line}")


def _condition(error: Exception) -> str:
    found = getattr(error, "getCondition", None) or getattr(error, "getErrorClass", None)
    condition = found() if found else None
    if condition and condition != "PYTHON_EXCEPTION":
        return str(condition)
    # An error out of a task arrives as text around its cause.
    named = re.search(r"\[([A-Z][A-Z0-9_]+(?:\.[A-Z0-9_]+)?)\]", str(error))
    return named.group(1) if named else ""


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else "no reason given")[:600]
