"""Where the store of a path lives between visits."""

from mergesync.persist.base import Persister, Stored
from mergesync.persist.json_file import JsonFilePersister
from mergesync.persist.json_folder import JsonFilePersisters, json_file_persisters
from mergesync.persist.sqlite import SqliteDatabase
from mergesync.persist.sqlite_persister import SqlitePersister, SqlitePersisters, sqlite_persisters
from mergesync.persist.status import OnIgnoredError, PersisterStats, PersisterStatus

__all__ = [
    "JsonFilePersister",
    "JsonFilePersisters",
    "OnIgnoredError",
    "Persister",
    "PersisterStats",
    "PersisterStatus",
    "SqliteDatabase",
    "SqlitePersister",
    "SqlitePersisters",
    "Stored",
    "json_file_persisters",
    "sqlite_persisters",
]
