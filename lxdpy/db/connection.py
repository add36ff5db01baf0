"""The SQLite database: one connection, used by one thread, so the event loop never waits for the disk.

Services keep what they need in memory and write through: reading happens when the daemon starts.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lxdpy.db import schema
from lxdpy.errors import NoSpaceError, WorkerError

T = TypeVar("T")


class Database:
    """`run(function)` executes `function(connection)` as one transaction."""

    def __init__(self, path: Path) -> None:
        """Open (and create or migrate) the database. Raises WorkerError, also when a newer lxdpy wrote it."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="db")
        try:
            self._connection = self._thread.submit(self._open, path).result()
        except (OSError, sqlite3.Error) as exc:
            self._thread.shutdown()
            raise WorkerError(f"Cannot open database {path}: {exc}") from exc

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        # For root alone: instances' configuration holds passwords. SQLite gives its other files the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.chmod(path, 0o600)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")
        schema.migrate(connection)
        return connection

    async def run(self, function: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run `function` in the database's thread, in one transaction: all of it happens or nothing.

        What is not `durable` survives the daemon's death at once, and a power cut once a later transaction is, or the
        kernel has written it: a sync right after a pull would wait for the journal of all its files.

        Raises NoSpaceError when the disk is full, WorkerError for other failures of SQLite.
        """
        # A transaction that has begun runs to its end whatever happens to the caller.
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, self._transact, function, durable))

    def _transact(self, function: Callable[[sqlite3.Connection], T], durable: bool) -> T:
        connection = self._connection
        try:
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = function(connection)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as exc:
            if exc.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise NoSpaceError(f"Cannot write the database: {exc}") from exc
            raise WorkerError(f"Database error: {exc}") from exc
        return result

    def close(self) -> None:
        """Finish what runs and close."""
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()
