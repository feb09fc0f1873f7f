"""`sparkConfig` and `libJars`, parsed and held to what a caller may set. Nothing here goes near a shell.

Spark has hundreds of settings that name a class, a command or a file, and with one of them a caller runs code as
Airflow does. So what is allowed is listed here, not what is forbidden; `[slipway] spark_settings_allowed` adds to
the list.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from slipway import settings
from slipway.errors import UserError

__all__ = ["parse_lib_jars", "parse_spark_config"]

# spark-submit's own options (https://spark.apache.org/docs/latest/submitting-applications.html) as settings.
_OPTIONS = {
    "--driver-memory": "spark.driver.memory",
    "--driver-cores": "spark.driver.cores",
    "--executor-memory": "spark.executor.memory",
    "--executor-cores": "spark.executor.cores",
    "--num-executors": "spark.executor.instances",
    "--total-executor-cores": "spark.cores.max",
    "--queue": "spark.yarn.queue",
}

_ALLOWED = (
    "spark.driver.memory", "spark.driver.cores", "spark.driver.memoryOverhead", "spark.driver.maxResultSize",
    "spark.executor.memory", "spark.executor.cores", "spark.executor.instances", "spark.executor.memoryOverhead",
    "spark.executor.memoryOverheadFactor", "spark.executor.pyspark.memory", "spark.executor.heartbeatInterval",
    "spark.cores.max", "spark.default.parallelism", "spark.yarn.queue", "spark.yarn.priority",
    "spark.dynamicAllocation.*", "spark.excludeOnFailure.*", "spark.locality.wait*", "spark.memory.*",
    "spark.network.timeout", "spark.rdd.compress", "spark.shuffle.compress", "spark.shuffle.spill.compress",
    "spark.shuffle.file.buffer", "spark.shuffle.io.maxRetries", "spark.shuffle.io.retryWait", "spark.speculation*",
    "spark.stage.maxConsecutiveAttempts", "spark.task.cpus", "spark.task.maxFailures", "spark.kryoserializer.buffer*",
    "spark.sql.adaptive.*", "spark.sql.ansi.enabled", "spark.sql.autoBroadcastJoinThreshold",
    "spark.sql.broadcastTimeout", "spark.sql.caseSensitive", "spark.sql.csv.*", "spark.sql.execution.arrow.*",
    "spark.sql.files.*", "spark.sql.inMemoryColumnarStorage.*", "spark.sql.json.*", "spark.sql.optimizer.*",
    "spark.sql.orc.*", "spark.sql.parquet.*", "spark.sql.join.*", "spark.sql.session.timeZone",
    "spark.sql.shuffle.partitions", "spark.sql.sources.partitionOverwriteMode", "spark.sql.statistics.*",
    "spark.sql.timestampType",
)  # fmt: skip
# Also within an allowed group: whatever names a class, a command, a file or another place to load from.
_NAMES_CODE = re.compile(
    r"class|extension|listener|plugin|javaoptions|libraryp|command|factory|provider|committer|serializer\b|manager|"
    r"customcost|script|excludedrules",
    re.IGNORECASE,
)
_KEY = re.compile(r"spark\.[A-Za-z0-9._-]{1,200}")
_LONGEST = 16_384
_LONGEST_VALUE = 1024


def parse_spark_config(text: str | None) -> dict[str, str]:
    """Return the settings in `sparkConfig`, spark-submit options or a JSON object.

    :raises UserError: if it is neither, or a setting is not allowed.
    """
    text = _checked("sparkConfig", text)
    pairs = _from_json(text) if text.startswith("{") else _from_options(text)
    found: dict[str, str] = {}
    for key, value in pairs:
        _check(key, value)
        if found.get(key, value) != value:
            raise UserError(f"sparkConfig sets {key} twice: give it once.")
        found[key] = value
    return found


def parse_lib_jars(text: str | None) -> list[str]:
    """Return the jars in `libJars`: files below one of `[slipway] spark_jar_dirs`, since a jar is code on the driver.

    :raises UserError: if one is elsewhere or does not exist.
    """
    text = _checked("libJars", text)
    return [_jar(entry.strip()) for entry in text.split(",") if entry.strip()]


def _jar(entry: str) -> str:
    roots = [Path(root).resolve() for root in settings.spark_jar_dirs()]
    parts = urlsplit(entry)
    path = (
        Path(unquote(parts.path))
        if parts.scheme in {"", "file"} and not (parts.netloc or parts.fragment or parts.query)
        else None
    )
    if path is not None and path.suffix == ".jar":
        candidates = [path] if path.is_absolute() else [root / path for root in roots]
        for candidate in candidates:
            real = candidate.resolve()
            if any(real.is_relative_to(root) for root in roots) and real.is_file():
                return str(real)
    shown = entry if len(entry) <= 80 else f"{entry[:77]}…"
    raise UserError(
        f"libJars names '{shown}', which is no jar below {', '.join(map(str, roots))}: a jar runs code on the driver, "
        "so put it there, or have its folder added to [slipway] spark_jar_dirs."
    )


def _checked(field: str, text: str | None) -> str:
    text = (text or "").strip()
    if len(text) > _LONGEST:
        raise UserError(f"{field} has {len(text)} characters: give at most {_LONGEST}.")
    if any(ord(character) < 32 and character not in "\t\r\n" for character in text):
        raise UserError(f"{field} holds control characters: give plain text.")
    return text


def _from_json(text: str) -> list[tuple[str, str]]:
    try:
        raw: Any = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as e:
        raise UserError(f"sparkConfig begins as JSON and is none ({e}): give one object.") from None
    if not all(isinstance(pair, tuple) and isinstance(pair[1], str | int | float | bool) for pair in raw):
        raise UserError("sparkConfig is JSON with lists or objects in it: give text, numbers or true and false.")
    return [(key, str(value).lower() if isinstance(value, bool) else str(value)) for key, value in raw]


def _from_options(text: str) -> list[tuple[str, str]]:
    try:
        words = shlex.split(text)
    except ValueError as e:
        raise UserError(f"sparkConfig has an open quote ({e}): close it.") from None
    pairs = []
    rest = iter(words)
    for word in rest:
        option, joined, value = word.partition("=")
        if option in {"--conf", "-c"}:
            setting = value if joined else next(rest, "")
            key, equals, value = setting.partition("=")
            if not equals:
                raise UserError(f"sparkConfig has '{word} {setting}', which sets nothing: write --conf key=value.")
            pairs.append((key.strip(), value))
        elif option in _OPTIONS:
            pairs.append((_OPTIONS[option], value if joined else next(rest, "")))
        else:
            raise UserError(
                f"sparkConfig has '{word[:60]}', which is not taken: write --conf key=value, or one of "
                f"{', '.join(sorted(_OPTIONS))}, or a JSON object."
            )
    return pairs


def _check(key: str, value: str) -> None:
    if not _KEY.fullmatch(key):
        raise UserError(f"sparkConfig sets '{key[:60]}', which is no setting of Spark's: they begin with 'spark.'.")
    if not value or len(value) > _LONGEST_VALUE or any(ord(c) < 32 for c in value):
        raise UserError(f"sparkConfig gives {key} no value, or one that is not one line of text: correct it.")
    listed = any(fnmatch.fnmatchcase(key, pattern) for pattern in _ALLOWED)
    if listed and not _NAMES_CODE.search(key):
        return
    if any(fnmatch.fnmatchcase(key, pattern) for pattern in settings.spark_settings_allowed()):
        return
    raise UserError(
        f"sparkConfig sets {key}, which callers may not: leave it out, set it in the Spark connection's cluster, or "
        "have it added to [slipway] spark_settings_allowed."
    )
