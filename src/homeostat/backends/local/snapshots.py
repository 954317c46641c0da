"""Content-addressed tables as Parquet files, in a folder or on S3.

`<root>/<first two letters of the key>/<key>.parquet`, with the content's digest in the file's own
metadata. Any tool that reads Parquet reads them.
"""

from __future__ import annotations

import io
import os
import secrets
from pathlib import Path

import polars as pl

from homeostat.core.errors import Damaged, NotFound, Unavailable
from homeostat.data import s3
from homeostat.data.snapshots import checked, table_digest

_DIGEST = "homeostat:digest"


class FileSnapshots:
    """core.ports.SnapshotStore on a folder or an `s3://bucket/folder`.

    The first table put under a key stays. `get` compares the content with its digest and raises
    Damaged where they differ; Unavailable where the disk or the store does not answer.
    """

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")
        self._remote = s3.is_s3(root)
        if self._remote:
            s3.bucket_named(root)

    def put(self, key: str, table: pl.DataFrame) -> str:
        found = self.digest(key)
        if found is not None:
            return found
        digest = table_digest(table)
        address = self._address(key)
        if self._remote:
            _upload(address, table, digest)
        else:
            _write(Path(address), table, digest)
        return digest

    def get(self, key: str) -> pl.DataFrame | None:
        data = self._read(key)
        if data is None:
            return None
        digest = _digest_of(self._address(key), data)
        try:
            table = pl.read_parquet(io.BytesIO(data))
        except pl.exceptions.PolarsError as error:
            raise _damaged(self._address(key), str(error).splitlines()[0]) from error
        if table_digest(table) != digest:
            raise _damaged(self._address(key), "content that is not what was put")
        return table

    def digest(self, key: str) -> str | None:
        if self._remote:
            data = self._read(key)
            return None if data is None else _digest_of(self._address(key), data)
        path = Path(self._address(key))
        return _digest_of(str(path), path) if path.is_file() else None

    def remove(self, key: str) -> None:
        address = self._address(key)
        if self._remote:
            s3.remove(address)
            return
        try:
            Path(address).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(
                "a snapshot cannot be removed", path=address, found=error.strerror or str(error)
            ) from error

    def _address(self, key: str) -> str:
        return f"{self._root}/{checked(key)[:2]}/{key}.parquet"

    def _read(self, key: str) -> bytes | None:
        address = self._address(key)
        try:
            return s3.read(address) if self._remote else Path(address).read_bytes()
        except (NotFound, FileNotFoundError):
            return None
        except OSError as error:
            raise Unavailable(
                "a snapshot cannot be read", path=address, found=str(error)
            ) from error


def _write(path: Path, table: pl.DataFrame, digest: str) -> None:
    """All or nothing: a hidden file beside it, then a rename."""
    buffer = io.BytesIO()
    table.write_parquet(buffer, metadata={_DIGEST: digest})
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Unavailable(
            "a snapshot cannot be written",
            path=str(path),
            found=error.strerror or str(error),
            remedy="free some space, or keep the snapshots elsewhere",
        ) from error


def _upload(url: str, table: pl.DataFrame, digest: str) -> None:
    """An object on S3 appears when its upload is complete, or not at all."""
    try:
        table.write_parquet(url, metadata={_DIGEST: digest}, storage_options=s3.storage_options())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise s3.unavailable(url, error) from error


def _digest_of(address: str, file: bytes | Path) -> str:
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        found = pl.read_parquet_metadata(source).get(_DIGEST)
    except pl.exceptions.PolarsError as error:
        raise _damaged(address, str(error).splitlines()[0]) from error
    if found is None:
        raise _damaged(address, "a Parquet file without a digest")
    return found


def _damaged(address: str, found: str) -> Damaged:
    return Damaged(
        "a snapshot is damaged",
        path=address,
        found=found,
        remedy="delete it: it is computed again",
    )
