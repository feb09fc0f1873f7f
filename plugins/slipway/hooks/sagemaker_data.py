"""An endpoint's folder in S3: the model data under its digest, and the lock that keeps two deploys apart."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from slipway.errors import NotFound, Unavailable, UserError
from slipway.hooks.sagemaker import client_options
from slipway.hooks.sagemaker_errors import translated
from slipway.sagemaker.archive import archive_digest, write_archive

__all__ = ["Held", "SageMakerDataHook"]

_ROOT = "slipway"


@dataclass(frozen=True)
class Held:
    """A lock that a run holds.

    :param owner: `dag_id/run_id`.
    :param etag: of the lock, to take it over if it has not changed.
    """

    owner: str
    etag: str


class SageMakerDataHook(BaseHook):
    """The folder `slipway/<endpoint>/` in a bucket.

    :param conn_id: an AWS connection.
    :param bucket: where the model data is.
    :param lock_bucket: where the lock is.
    """

    def __init__(self, conn_id: str, region: str, bucket: str, endpoint: str, *, lock_bucket: str) -> None:
        super().__init__()
        self.conn_id = conn_id
        self.region = region
        self.bucket = bucket
        self.endpoint = endpoint
        self.lock_bucket = lock_bucket
        self.lock_key = f"{_ROOT}/{endpoint}/lock"

    @cached_property
    def _client(self) -> Any:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        with translated("connect", self.conn_id):
            return S3Hook(aws_conn_id=self.conn_id, region_name=self.region, config=client_options()).get_conn()

    # Model data

    def check_bucket(self) -> None:
        """Check that the bucket for the model data is there, and in the endpoint's region, where SageMaker wants it.

        :raises UserError: otherwise.
        """
        with translated(f"look for bucket '{self.bucket}'", self.conn_id):
            found = self._client.head_bucket(Bucket=self.bucket)
        region = found.get("BucketRegion") or self.region
        if region != self.region:
            raise UserError(
                f"Bucket '{self.bucket}' is in region {region}, and the endpoint's region is {self.region}: name a "
                "bucket there in Variable mlops.bucket or the conf's bucket."
            )

    def exists(self, uri: str) -> bool:
        """Whether an object is there."""
        parts = urlsplit(uri)
        try:
            with translated(f"look for '{uri}'", self.conn_id):
                self._client.head_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))
        except NotFound:
            return False
        return True

    def store(self, model: Path, *, uri: str | None = None, kms: str | None = None) -> tuple[str, bool]:
        """Upload a model directory as `model.tar.gz`, unless it is there; return its S3 URI, and whether it is new.

        It goes through memory in parts, whatever its size; only the model directory itself is on disk.

        :param uri: where it is to be; by default under its digest in the endpoint's folder.
        :param kms: key to encrypt it with.
        """
        uri = uri or f"s3://{self.bucket}/{_ROOT}/{self.endpoint}/{archive_digest(model)}/model.tar.gz"
        if self.exists(uri):
            self.log.info("The model data is in S3 already: %s", uri)
            return uri, False
        parts = urlsplit(uri)
        bucket, key = parts.netloc, parts.path.lstrip("/")
        with translated(f"write '{uri}'", self.conn_id):
            self._abort_uploads(bucket, key)
            extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms} if kms else {}
            _stream(model, lambda file: self._client.upload_fileobj(file, bucket, key, ExtraArgs=extra))
        self.log.info("Uploaded the model data to %s", uri)
        return uri, True

    def delete(self, uri: str) -> None:
        """Delete an object; it is well if it is not there."""
        parts = urlsplit(uri)
        with translated(f"delete '{uri}'", self.conn_id):
            self._client.delete_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))

    def abort_uploads(self) -> None:
        """Abort what killed uploads of the endpoint's model data left."""
        # Where the bucket has been deleted there is none.
        with suppress(NotFound), translated(f"abort uploads of endpoint '{self.endpoint}'", self.conn_id):
            self._abort_uploads(self.bucket, f"{_ROOT}/{self.endpoint}/")

    def _abort_uploads(self, bucket: str, key: str) -> None:
        """Abort what killed uploads below a key left: S3 keeps their parts, and charges for them."""
        listed = self._client.list_multipart_uploads(Bucket=bucket, Prefix=key)
        for upload in listed.get("Uploads", []):
            self._client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    def delete_data(self) -> int:
        """Delete all model data of the endpoint, and return how many objects that were."""
        count = 0
        with translated(f"delete the model data of endpoint '{self.endpoint}'", self.conn_id):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=f"{_ROOT}/{self.endpoint}/"):
                keys = [{"Key": one["Key"]} for one in page.get("Contents", []) if one["Key"] != self.lock_key]
                if keys:
                    self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})
                count += len(keys)
        return count

    # The lock. S3 writes an object only if none is there, or only if it has not changed:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html

    def acquire(self, owner: str, *, instead_of: Held | None = None) -> Held | None:
        """Take the endpoint's lock; return who holds it if somebody else does, else None.

        :param owner: `dag_id/run_id`.
        :param instead_of: take it over from this holder, if it still holds it.
        """
        condition = {"IfMatch": instead_of.etag} if instead_of else {"IfNoneMatch": "*"}
        if self._put_lock(owner, condition):
            return None
        return self.holder() or Held("", "")

    def _put_lock(self, owner: str, condition: dict[str, str]) -> bool:
        from botocore.exceptions import ClientError

        with translated(f"write the lock of endpoint '{self.endpoint}' in bucket '{self.lock_bucket}'", self.conn_id):
            try:
                self._client.put_object(
                    Bucket=self.lock_bucket, Key=self.lock_key, Body=json.dumps({"owner": owner}).encode(), **condition
                )
            except ClientError as e:
                code = e.response["Error"]["Code"]
                if code in {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}:
                    return False
                if code == "NoSuchBucket":
                    raise NotFound(
                        f"Bucket '{self.lock_bucket}', which keeps runs of endpoint '{self.endpoint}' apart, is not "
                        "there: create it, or name another one in Variable mlops.bucket.",
                        code,
                    ) from None
                raise
        return True

    def holder(self) -> Held | None:
        """Return who holds the lock; None if nobody does."""
        from botocore.exceptions import ClientError

        with translated(f"read the lock of endpoint '{self.endpoint}'", self.conn_id):
            try:
                found = self._client.get_object(Bucket=self.lock_bucket, Key=self.lock_key)
            except ClientError as e:
                if e.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise
            body = found["Body"].read()
        with suppress(ValueError, KeyError, TypeError):
            return Held(str(json.loads(body)["owner"]), found["ETag"])
        return Held("somebody", found["ETag"])

    def release(self, owner: str) -> None:
        """Give the lock back, if this owner holds it."""
        held = self.holder()
        if held and held.owner == owner:
            with translated(f"remove the lock of endpoint '{self.endpoint}'", self.conn_id):
                self._client.delete_object(Bucket=self.lock_bucket, Key=self.lock_key)


def _stream(model: Path, send: Callable[[_Archive], object]) -> None:
    """Let `send` read the archive from a pipe while a thread writes it."""
    reading, writing = os.pipe()
    archive = _Archive(model, reading, writing)
    archive.start()
    try:
        send(archive)
    finally:
        archive.close()


class _Archive:
    """The readable end. It ends with an error where the files could not be read: half an archive is never taken for
    a whole one."""

    def __init__(self, model: Path, reading: int, writing: int) -> None:
        self._model = model
        self._source = os.fdopen(reading, "rb")
        self._writing = writing
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._write)

    def start(self) -> None:
        """Let the thread write."""
        self._thread.start()

    def _write(self) -> None:
        with suppress(BrokenPipeError), os.fdopen(self._writing, "wb") as target:  # the reader may stop early
            try:
                write_archive(self._model, target)
            except BrokenPipeError:
                raise
            except OSError as e:
                self._failure = e

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; none at the end."""
        data = self._source.read(size)
        if not data:
            self._thread.join()
            if self._failure:
                raise Unavailable(f"The model data could not be read while it was uploaded ({self._failure}).")
        return data

    def close(self) -> None:
        """End the thread too."""
        self._source.close()
        self._thread.join()
