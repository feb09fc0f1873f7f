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
# Conditions that look like those, of a session that the server has lost: the next try gets another one.
_LOST_SESSION = re.compile(r"^INVALID_HANDLE\.")
# What a store or a network says when it is a moment's trouble, and not the file, that keeps it from being read.
_PASSING = re.compile(
    r"tim(?:ed?|ing)[ -]?out|Connection (?:reset|refused|closed)|Broken pipe|Stale file handle|No route to host|"
    r"Unable to execute HTTP request|UnknownHostException|NoHttpResponse|SlowDown|"
    r"Service Unavailable|Too Many Requests|\b(?:Status Code|status|HTTP|Error|code)\W{0,3}(?:5\d\d|429)\b",
    re.IGNORECASE,
)
_MODEL = re.compile(r"(?:ModelProcessError|ModelDiedError): (.+)")
_BROKEN_MODEL = re.compile(r"ModelBrokenError: (.+)")
_FULL = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
_FILE = re.compile(r"(?:file:|hdfs:|s3a?:|abfss?:)/+[^\s,;'\"]+")


def explain(error: Exception) -> JobError:
    """Return what a failure of Spark's means for the user."""
    if isinstance(error, JobError):
        return error
    text = str(error)
    for named, kind in ((_BROKEN_MODEL, WrongInput), (_MODEL, JobError)):
        if model := named.search(text):
            return kind(model.group(1).strip())
    if _FULL.search(text):
        return JobError("The disk is full: nothing was published; free space where the output and Spark's spill go.")
    condition = _condition(error)
    if condition.startswith("FAILED_READ_FILE"):
        return _unreadable(text, condition)
    line = _first_line(text)
    if condition and _WRONG.match(condition) and not _LOST_SESSION.match(condition):
        return WrongInput(line)
    return JobError(f"Spark failed ({type(error).__name__}): {line}")


def _unreadable(text: str, condition: str) -> JobError:
    found = _FILE.search(text)
    file = f"The file {found.group(0)}" if found else "The file of an input"
    # Not in the file's own name, nor in the names of a stack's methods.
    told = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("at "))
    passing = _PASSING.search(told.replace(found.group(0).rstrip("."), "") if found else told)
    if passing:
        return JobError(f"{file} could not be read for now ({passing.group(0)}).")
    return WrongInput(
        f"{file} cannot be read as the node's format and schema say ({condition}): repair or remove it, or correct "
        "the node."
    )


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
