import asyncio
import sqlite3
from pathlib import Path

import pytest

from lxdpy.db import images, instances, leases, schema
from lxdpy.db.connection import Database
from lxdpy.db.images import ImageRecord
from lxdpy.errors import NoSpaceError, WorkerError


def insert(db: sqlite3.Connection) -> None:
    images.put(db, ImageRecord("a", None, None, "c", "d", "e", 1, 2.0, 3.0, 4.0, {}, (), ()))


def count(db: sqlite3.Connection) -> int:
    number: int = db.execute("SELECT count(*) FROM images").fetchone()[0]
    return number


def test_a_transaction_happens_wholly_or_not_at_all(tmp_path: Path) -> None:
    def fail(db: sqlite3.Connection) -> None:
        insert(db)
        raise ValueError

    async def scenario() -> None:
        with pytest.raises(ValueError):
            await database.run(fail)
        assert await database.run(count) == 0
        await database.run(insert)

    database = Database(tmp_path / "db")
    asyncio.run(scenario())
    database.close()
    database = Database(tmp_path / "db")
    assert asyncio.run(database.run(count)) == 1
    database.close()


def test_a_cancelled_caller_does_not_tear_a_transaction(tmp_path: Path) -> None:
    async def scenario() -> None:
        task = asyncio.create_task(database.run(insert))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await database.run(count) == 1

    database = Database(tmp_path / "db")
    asyncio.run(scenario())
    database.close()


def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    async def scenario() -> None:
        await database.run(lambda db: db.execute("PRAGMA max_page_count = 1"))
        with pytest.raises(NoSpaceError):
            await database.run(lambda db: db.execute("CREATE TABLE big AS SELECT zeroblob(100000) AS x"))

    database = Database(tmp_path / "db")
    asyncio.run(scenario())
    database.close()


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(WorkerError, match="newer"):
        Database(tmp_path / "db")


def test_a_lease_needs_its_instance(tmp_path: Path) -> None:
    lease = leases.LeaseRecord("n", "10.0.0.2", "nobody", "eth0", "00:16:3e:00:00:01")
    database = Database(tmp_path / "db")
    with pytest.raises(sqlite3.IntegrityError):
        asyncio.run(database.run(lambda db: leases.put(db, lease)))
    database.close()


def test_other_users_cannot_read_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    asyncio.run(database.run(insert))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    database.close()


def test_what_is_no_database_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"this is no database " * 100)
    with pytest.raises(WorkerError, match="Cannot open database"):
        Database(tmp_path / "db")
    with pytest.raises(WorkerError, match="Cannot open database"):
        Database(tmp_path / "missing" / "db")


def test_which_commits_are_synced(tmp_path: Path) -> None:
    def mode(db: sqlite3.Connection) -> int:
        value: int = db.execute("PRAGMA synchronous").fetchone()[0]
        return value

    async def scenario() -> None:
        assert await database.run(mode, durable=False) == 1
        # FULL: syncs the log at each commit.
        assert await database.run(mode) == 2

    database = Database(tmp_path / "db")
    asyncio.run(scenario())
    database.close()


def test_instances_of_earlier_versions_keep_their_writable_layer(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.executescript(f"{schema._STEPS[0]} PRAGMA user_version = 1;")
        digest = f"sha256:{'0' * 64}"
        values = ("old", "x86_64", "", 0, "{}", "{}", "[]", 1.0, 0.0, "0" * 64, digest, "[]", "[]")
        connection.execute(f"INSERT INTO instances VALUES ({', '.join('?' * len(values))})", values)
    connection.close()
    database = Database(tmp_path / "db")
    (record,) = asyncio.run(database.run(instances.load))
    assert (record.name, record.rw) == ("old", "rw")
    database.close()
