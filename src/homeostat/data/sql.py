"""Rows of a SQL query, through SQLAlchemy (postgresql://, sqlite:///)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from homeostat.core.errors import BadInput, NotFound, Unavailable


def is_sql(source: str) -> bool:
    return source.split("://")[0].split("+")[0] in {"postgresql", "postgres", "sqlite"}


def shown(source: str) -> str:
    """The source as it may be printed: without a password."""
    head, at, rest = source.rpartition("@")
    if not at or "://" not in head:
        return source
    scheme, _, user = head.partition("://")
    return f"{scheme}://{user.split(':')[0]}@{rest}"


def read(source: str, query: str | None, root: Path) -> pl.DataFrame:
    """Run the query. Raises BadInput (no query, not valid), NotFound, Unavailable."""
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

    if not query:
        raise BadInput(
            "a database needs a query",
            path="$.data.query",
            expected="query: SELECT ... FROM ...",
        )
    where = shown(source)
    try:
        engine = sqlalchemy.create_engine(_url(source, root))
    except (ArgumentError, NoSuchModuleError) as error:
        raise BadInput("not a database address", path=where, found=str(error)) from error
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"the driver {error.name!r} is not installed",
            path=where,
            remedy="pip install 'homeostat[postgres]'",
        ) from error
    try:
        with engine.connect() as connection:
            try:
                return pl.read_database(
                    sqlalchemy.text(query), connection, infer_schema_length=None
                )
            except DBAPIError as error:
                raise BadInput("the query fails", path=where, found=_cause(error)) from error
    except OperationalError as error:
        raise Unavailable(
            "the database does not answer", path=where, found=_cause(error)
        ) from error
    finally:
        engine.dispose()


def _url(source: str, root: Path) -> str:
    """With the driver that is shipped; a relative SQLite file is relative to the project."""
    if source.startswith("sqlite:///"):
        file = root / source.removeprefix("sqlite:///")
        if not file.is_file():
            raise NotFound("there is no such database file", path=str(file))
        return f"sqlite:///{file}"
    scheme, _, rest = source.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in {"postgresql", "postgres"} else source


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
