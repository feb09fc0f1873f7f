"""What a failure of Spark's means: whether the next try may do better, in one sentence."""

from __future__ import annotations

import pytest

from slipway_spark.errors import WrongInput, explain

READ = "[FAILED_READ_FILE.NO_HINT] Encountered error while reading file s3a://bucket/2026/500.parquet. SQLSTATE: KD001"

PASSING = [
    "[INVALID_HANDLE.SESSION_CHANGED] The handle x is invalid. The server has restarted.",
    "[INVALID_HANDLE.SESSION_NOT_FOUND] The handle x is invalid. Session not found. SQLSTATE: HY000",
    f"{READ}\nCaused by: java.net.SocketTimeoutException: Read timed out",
    f"{READ}\nCaused by: java.net.SocketException: Connection reset",
    f"{READ}\nCaused by: java.io.IOException: Stale file handle",
    f"{READ}\nCaused by: com.amazonaws.services.s3.model.AmazonS3Exception: null (Status Code: 503; Error Code: x)",
    "ModelDiedError: The model's process ended with status -9 while it scored a batch.",
]
LASTING = [
    READ,
    f"{READ}\nCaused by: java.lang.RuntimeException: s3a://bucket/2026/500.parquet is not a Parquet file",
    f"{READ}\n\tat org.apache.spark.TimeoutHelper.run(TimeoutHelper.scala:500)",
    "[INVALID_PARAMETER_VALUE.PATTERN] The value of parameter is invalid.",
    "ModelBrokenError: The model cannot be loaded (No module named 'x').",
]


@pytest.mark.parametrize("text", PASSING)
def test_what_may_pass_is_tried_again(text: str) -> None:
    said = explain(RuntimeError(text))
    assert not isinstance(said, WrongInput)
    assert "\n" not in str(said)


@pytest.mark.parametrize("text", LASTING)
def test_what_stays_wrong_is_not(text: str) -> None:
    said = explain(RuntimeError(text))
    assert isinstance(said, WrongInput)
    assert "\n" not in str(said)
