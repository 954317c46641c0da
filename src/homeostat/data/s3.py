"""Objects on S3 and what speaks like it (MinIO, Ceph, rclone), told where by the usual variables.

AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL.
Reading goes through PyArrow (it copes with servers that answer ranges with status 200), writing
through Polars (it sends the length that some servers insist on).
"""

from __future__ import annotations

import os
from typing import Any

from homeostat.core.errors import BadInput, NotFound, Unavailable

SCHEME = "s3://"


def is_s3(source: str) -> bool:
    return source.startswith(SCHEME)


def storage_options() -> dict[str, str]:
    """What Polars needs to write to S3, from the AWS_* variables that are set."""
    names = (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
    )
    options = {name.lower(): os.environ[name] for name in names if os.environ.get(name)}
    options.setdefault("aws_region", _region())
    if options.get("aws_endpoint_url", "").startswith("http://"):
        options["aws_allow_http"] = "true"
    return options


def filesystem() -> Any:
    """A `pyarrow.fs.S3FileSystem` for the endpoint in the environment."""
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    where: dict[str, Any] = {}
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        where = {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    return fs.S3FileSystem(region=_region(), connect_timeout=10, request_timeout=60, **where)


def sizes(url: str) -> dict[str, tuple[int, int]]:
    """Objects below a folder or at an address -> (bytes, modified in ns). Raises Unavailable."""
    from pyarrow import fs

    path = url.removeprefix(SCHEME).rstrip("/")
    store = filesystem()
    try:
        info = store.get_file_info(path)
        found = [info]
        if info.type != fs.FileType.File:
            found = store.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    except OSError as error:
        raise unavailable(url, error) from error
    return {
        SCHEME + f.path: (int(f.size), int(f.mtime_ns or 0))
        for f in found
        if f.type == fs.FileType.File
    }


def read(url: str) -> bytes:
    """The bytes of one object. Raises NotFound, Unavailable."""
    try:
        with filesystem().open_input_file(url.removeprefix(SCHEME)) as file:
            return bytes(file.read())
    except FileNotFoundError as error:
        raise NotFound("there is no such object", path=url) from error
    except OSError as error:
        raise unavailable(url, error) from error


def remove(url: str) -> None:
    """Remove one object; nothing where there is none. Raises Unavailable.

    By boto3: PyArrow puts an empty object in place of the folder, which some servers take for a
    file, and delta-rs asks for removals in bulk, which some do not know."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise Unavailable(
            "objects on S3 cannot be removed without boto3", remedy="pip install 'homeostat[s3]'"
        ) from error
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    try:
        client = boto3.client("s3", region_name=_region())
        client.delete_object(Bucket=bucket, Key=key)
    except (BotoCoreError, ClientError) as error:
        raise unavailable(url, error) from error


def unavailable(url: str, error: Exception) -> Unavailable:
    """The store's own words, and where to look."""
    return Unavailable(
        "the object store does not answer as it should",
        path=url,
        found=str(error)[:300],
        remedy="check AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    )


def bucket_named(url: str) -> None:
    """Raises BadInput unless the address names a bucket."""
    if not url.removeprefix(SCHEME).strip("/"):
        raise BadInput("no bucket in the address", path=url, expected="s3://bucket/folder")


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
