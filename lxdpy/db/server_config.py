"""What clients have set of the server: keys and values."""

import sqlite3
from collections.abc import Mapping


def load(connection: sqlite3.Connection) -> dict[str, str]:
    """Every key that is set."""
    return {row["key"]: row["value"] for row in connection.execute("SELECT key, value FROM server_config")}


def replace(connection: sqlite3.Connection, values: Mapping[str, str]) -> None:
    """Let exactly `values` be set."""
    connection.execute("DELETE FROM server_config")
    connection.executemany("INSERT INTO server_config VALUES (?, ?)", values.items())
