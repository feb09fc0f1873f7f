"""What AWS's refusals mean to the user of a SageMaker deploy: one sentence each.

SageMaker says most of what is wrong with the one code ValidationException, so its words are looked at.
Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slipway.errors import NotFound, SlipwayError, Unavailable, UserError

__all__ = ["AlreadyThere", "translated"]

_THROTTLED = {
    "Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "TooManyRequestsException",
    "SlowDown", "ConcurrentUpdateException",
}  # fmt: skip
_UNKNOWN_KEY = {
    "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "InvalidSignatureException",
    "SignatureDoesNotMatch", "MissingAuthenticationTokenException", "ExpiredToken", "ExpiredTokenException",
}  # fmt: skip
_WRONG_TIME = {"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"}
# Codes, what they are, and the sentence.
_REFUSALS: tuple[tuple[set[str], type[UserError], str], ...] = (
    (
        _UNKNOWN_KEY,
        UserError,
        "AWS does not know the credentials of connection '{conn_id}' ({message}): correct its access key and secret.",
    ),
    (
        {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"},
        UserError,
        "AWS does not let connection '{conn_id}' {doing} ({message}): give its user that permission.",
    ),
    (
        {"ResourceLimitExceeded"},
        UserError,
        "The account's quota does not allow to {doing} ({message}): take another instance_type or fewer instances, or "
        "ask AWS Service Quotas for more.",
    ),
    (
        {"LimitExceededException"},
        UserError,
        "The account's quota does not allow to {doing} ({message}): remove what is not needed, or ask AWS Service "
        "Quotas for more.",
    ),
    (
        _WRONG_TIME,
        UserError,
        "AWS does not {doing} because of the time that this machine has ({message}): set its clock.",
    ),
    (
        {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"},
        UserError,
        "AWS cannot {doing} because the bucket is in another region ({message}): name a bucket in the region of "
        "mlops.region.",
    ),
    (
        {"NoSuchBucket", "404"},
        NotFound,
        "AWS cannot {doing} because there is no such bucket: create it, or name another one in Variable mlops.bucket "
        "or the conf's bucket.",
    ),
)


class AlreadyThere(SlipwayError):
    """What was to be made has been made already, by an earlier try."""


@contextmanager
def translated(doing: str, conn_id: str) -> Iterator[None]:
    """Turn AWS's errors into Slipway's.

    :param doing: what fails, such as `create model 'churn-v3-1f0c2a9b'`.
    :param conn_id: the connection, for errors about credentials.
    :raises UserError: for what would fail again.
    :raises Unavailable: for throttling and AWS's own faults.
    """
    from airflow.sdk.exceptions import AirflowException
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        HTTPClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    try:
        yield
    except ClientError as e:
        raise _meaning(doing, conn_id, e.response) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise UserError(
            f"There are no AWS credentials to {doing}: put the access key into connection '{conn_id}' (login and "
            "password), or give Airflow's machine a role."
        ) from None
    except HTTPClientError as e:
        raise Unavailable(f"AWS does not answer to {doing} ({type(e).__name__}).") from None
    except BotoCoreError as e:
        raise UserError(f"AWS cannot be asked to {doing}: {_one_line(str(e))}") from None
    except AirflowException as e:
        if type(e).__name__ == "AirflowNotFoundException":
            raise UserError(
                f"Connection '{conn_id}' does not exist: create it under Admin → Connections (type Amazon Web "
                "Services, access key as login and password)."
            ) from None
        raise


def _meaning(doing: str, conn_id: str, response: dict[str, Any]) -> SlipwayError:
    error = response.get("Error", {})
    code, message = str(error.get("Code", "")), _one_line(str(error.get("Message", "")))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _THROTTLED or status == 429:
        return Unavailable(f"AWS throttles the calls to {doing} ({message}): it is tried again.", code)
    if status >= 500:
        return Unavailable(f"AWS failed to {doing} ({code}: {message}).", code)
    if message.startswith(("Signature expired", "Signature not yet current")):
        code = "RequestTimeTooSkewed"  # what S3 calls it; the other services say it of the signature
    for codes, kind, sentence in _REFUSALS:
        if code in codes:
            return kind(sentence.format(doing=doing, conn_id=conn_id, message=message), code)
    return _validation(doing, code, message)


def _validation(doing: str, code: str, message: str) -> SlipwayError:
    text = message.lower()
    if "already existing" in text:
        return AlreadyThere(message, code)
    if text.startswith(("could not find endpoint", 'could not find model "')):
        return NotFound(f"AWS cannot {doing}: {message}", code)
    if "in-progress" in text:
        return Unavailable(f"AWS cannot {doing} while the endpoint changes ({message}).", code)
    remedies = {
        "assume role": "create the role that mlops.arn names, and let sagemaker.amazonaws.com assume it",
        "instancetype": "give an instance_type that SageMaker has for endpoints in this region, such as ml.m5.large",
        "requested image": "push the image first (build_and_push_image does), or leave image out of the conf",
        "non-ecr image": "give an image in ECR, or leave image out of the conf",
        "alarm": "give the names of CloudWatch alarms of this region in alarms",
    }
    remedy = next((text_ for sign, text_ in remedies.items() if sign in text), "correct the conf")
    return UserError(f"AWS refuses to {doing} ({message}): {remedy}.", code)


def _one_line(message: str) -> str:
    text = " ".join(message.split()).rstrip(".")
    return text if len(text) <= 400 else f"{text[:400]}…"
