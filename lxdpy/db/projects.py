"""Projects."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """One project."""

    name: str
    description: str
    config: Mapping[str, str]


def load(connection: sqlite3.Connection) -> list[ProjectRecord]:
    """Every project."""
    return [
        ProjectRecord(row["name"], row["description"], json.loads(row["config"]))
        for row in connection.execute("SELECT * FROM projects")
    ]


def put(connection: sqlite3.Connection, project: ProjectRecord) -> None:
    """Insert a project or replace it."""
    connection.execute(
        """
        INSERT INTO projects VALUES (?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET description = excluded.description, config = excluded.config
        """,
        (project.name, project.description, json.dumps(dict(project.config))),
    )


def rename(connection: sqlite3.Connection, name: str, new_name: str) -> None:
    """Rename a project; its profiles go with it."""
    connection.execute("UPDATE projects SET name = ? WHERE name = ?", (new_name, name))


def delete(connection: sqlite3.Connection, name: str) -> None:
    """Delete a project and its profiles."""
    connection.execute("DELETE FROM projects WHERE name = ?", (name,))
