"""Which codec reads a body (Content-Type) and which writes the predictions (Accept)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from slipway_scoring.codecs import json_out, rows_in, rows_out
from slipway_scoring.errors import BadPayload, NotAcceptable, ScoringError, UnsupportedMediaType
from slipway_scoring.http import JSON, Headers, accepted, media_type
from slipway_scoring.payload import Payload
from slipway_scoring.tables import TableReader

logger = logging.getLogger(__name__)

CSV = "text/csv"
JSON_LINES = "application/jsonlines"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
OFFERED = (JSON, CSV, JSON_LINES, "application/x-ndjson", "application/x-jsonlines", ARROW)
"""What Accept can choose, the default first."""

Decoded = tuple[Payload, Mapping[str, Any] | None]

_READERS: dict[str, Callable[[bytes, TableReader], Payload]] = {
    JSON_LINES: rows_in.json_lines_in,
    "application/x-jsonlines": rows_in.json_lines_in,
    "application/x-ndjson": rows_in.json_lines_in,
    PARQUET: rows_in.parquet_in,
    "application/x-parquet": rows_in.parquet_in,
    ARROW: rows_in.arrow_in,
    "application/x-arrow": rows_in.arrow_in,
}
_HEADERS = {"present": True, "absent": False}


def decode(headers: Headers, body: bytes, reader: TableReader, json: Callable[[bytes], Decoded]) -> Decoded:
    """Read a body by its Content-Type.

    Args:
        headers: the request's.
        body: the whole of it.
        reader: holds the table to the model's signature.
        json: how this dialect reads JSON, which no Content-Type means too.

    Raises:
        UnsupportedMediaType: no codec reads that type or charset.
        BadPayload: the body is not what it says, or not what the signature declares.
    """
    given = headers.get("content-type")
    if given is None or given == JSON:
        return guarded(json, body)
    kind, parameters = media_type(given)
    if parameters.get("charset", "utf-8") not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMediaType(f"Charset '{parameters['charset'][:50]}' is not read: send UTF-8.")
    if kind in (JSON, "", "application/octet-stream", "application/x-www-form-urlencoded"):
        # The last is what curl's --data says when nobody told it otherwise.
        return guarded(json, body)
    if kind in (CSV, "application/csv"):
        header = _HEADERS.get(parameters.get("header", ""))
        return guarded(lambda text: (rows_in.csv_in(text, reader, header=header), None), body)
    codec = _READERS.get(kind)
    if codec is None:
        known = ", ".join((JSON, CSV, JSON_LINES, PARQUET, ARROW))
        raise UnsupportedMediaType(f"Content-Type '{kind[:100]}' is not read: send one of {known}.")
    return guarded(lambda data: (codec(data, reader), None), body)


def guarded(read: Callable[[bytes], Decoded], body: bytes) -> Decoded:
    """Whatever a parser stumbles over is the payload's fault: it is logged, and refused as such."""
    try:
        return read(body)
    except ScoringError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        logger.warning("a body could not be read: %r", error)
        raise BadPayload(
            f"The body cannot be read ({type(error).__name__}): check it against /openapi.json."
        ) from error


Writer = Callable[[Any], bytes]


def writer(accept: str | None) -> tuple[str, Writer]:
    """The content type of the answer and who writes it.

    Raises:
        NotAcceptable: none of the formats is accepted.
    """
    if accept is None or accept in ("*/*", JSON):
        return JSON, json_out.encode
    chosen = accepted(accept, OFFERED)
    if chosen is None:
        raise NotAcceptable(f"Accept '{accept[:100]}' names no format that is written: ask for {', '.join(OFFERED)}.")
    if chosen == JSON:
        return JSON, json_out.encode
    if chosen == CSV:
        header = any(
            media_type(part)[0] == CSV and media_type(part)[1].get("header") == "present" for part in accept.split(",")
        )
        return f"{CSV}; charset=utf-8", lambda result: rows_out.to_csv(result, header=header)
    if chosen == ARROW:
        return ARROW, rows_out.to_arrow
    return chosen, rows_out.to_json_lines
