"""Tables and their migrations; `PRAGMA user_version` counts the steps taken.

Maps and lists that no query looks into are JSON text. Times are seconds since the epoch.
"""

import sqlite3

from lxdpy.errors import WorkerError

_STEPS = (
    """
    CREATE TABLE images (
        fingerprint   TEXT PRIMARY KEY,          -- hex of the manifest's digest
        config_digest TEXT NOT NULL,
        index_digest  TEXT,
        reference     TEXT NOT NULL,             -- canonical, as pulled
        server        TEXT NOT NULL,             -- endpoint that answered
        architecture  TEXT NOT NULL,
        size          INTEGER NOT NULL,          -- bytes of manifest, config and compressed layers
        created_at    REAL NOT NULL,
        uploaded_at   REAL NOT NULL,
        last_used_at  REAL NOT NULL,
        properties    TEXT NOT NULL,
        layers        TEXT NOT NULL,             -- layer ids, base first
        blobs         TEXT NOT NULL              -- digests of every blob it stands on
    ) STRICT;
    CREATE TABLE image_aliases (
        name        TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL REFERENCES images (fingerprint) ON DELETE CASCADE,
        description TEXT NOT NULL
    ) STRICT;
    CREATE TABLE instances (
        name         TEXT PRIMARY KEY,
        architecture TEXT NOT NULL,
        description  TEXT NOT NULL,
        ephemeral    INTEGER NOT NULL,
        config       TEXT NOT NULL,
        devices      TEXT NOT NULL,
        profiles     TEXT NOT NULL,
        created_at   REAL NOT NULL,
        last_used_at REAL NOT NULL,
        fingerprint  TEXT NOT NULL,              -- manifest of its image, which may be deleted before it
        config_digest TEXT NOT NULL,
        layers       TEXT NOT NULL,
        blobs        TEXT NOT NULL
    ) STRICT;
    CREATE TABLE leases (
        network  TEXT NOT NULL,
        address  TEXT NOT NULL,
        instance TEXT NOT NULL REFERENCES instances (name) ON DELETE CASCADE ON UPDATE CASCADE,
        device   TEXT NOT NULL,
        hwaddr   TEXT NOT NULL,
        PRIMARY KEY (network, address)
    ) STRICT;
    """,
    """
    ALTER TABLE instances ADD COLUMN rw TEXT NOT NULL DEFAULT 'rw';  -- its writable layer, in its directory
    """,
    # An empty config_digest, of an image or an instance: it has none, but an init of its own.
    """
    ALTER TABLE images ADD COLUMN kind TEXT NOT NULL DEFAULT 'oci';
    ALTER TABLE images ADD COLUMN protocol TEXT NOT NULL DEFAULT 'oci';
    ALTER TABLE images ADD COLUMN filename TEXT NOT NULL DEFAULT '';
    ALTER TABLE images ADD COLUMN public INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE images ADD COLUMN auto_update INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE images ADD COLUMN cached INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE images ADD COLUMN expires_at REAL NOT NULL DEFAULT 0;
    ALTER TABLE images ADD COLUMN profiles TEXT NOT NULL DEFAULT '["default"]';
    """,
    """
    CREATE TABLE storage_pools (
        name        TEXT PRIMARY KEY,
        driver      TEXT NOT NULL,
        description TEXT NOT NULL,
        config      TEXT NOT NULL
    ) STRICT;
    CREATE TABLE storage_volumes (                -- custom volumes
        pool        TEXT NOT NULL REFERENCES storage_pools (name),
        project     TEXT NOT NULL,
        name        TEXT NOT NULL,
        description TEXT NOT NULL,
        config      TEXT NOT NULL,
        created_at  REAL NOT NULL,
        PRIMARY KEY (pool, project, name)
    ) STRICT;
    CREATE TABLE storage_volume_snapshots (
        pool        TEXT NOT NULL,
        project     TEXT NOT NULL,
        volume      TEXT NOT NULL,
        name        TEXT NOT NULL,
        description TEXT NOT NULL,
        config      TEXT NOT NULL,
        created_at  REAL NOT NULL,
        PRIMARY KEY (pool, project, volume, name),
        FOREIGN KEY (pool, project, volume) REFERENCES storage_volumes (pool, project, name)
            ON DELETE CASCADE ON UPDATE CASCADE
    ) STRICT;
    INSERT INTO storage_pools VALUES ('default', 'overlay', '', '{}');
    """,
    """
    CREATE TABLE server_config (
        key   TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE networks (                       -- the configured one too, once a client changed it
        name        TEXT PRIMARY KEY,
        description TEXT NOT NULL,
        config      TEXT NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE projects (
        name        TEXT PRIMARY KEY,
        description TEXT NOT NULL,
        config      TEXT NOT NULL
    ) STRICT;
    INSERT INTO projects VALUES (
        'default', 'Default lxdpy project',
        '{"features.images": "true", "features.networks": "true", "features.profiles": "true",'
        || ' "features.storage.volumes": "true"}'
    );
    CREATE TABLE profiles (
        project     TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE ON UPDATE CASCADE,
        name        TEXT NOT NULL,
        description TEXT NOT NULL,
        config      TEXT NOT NULL,
        devices     TEXT NOT NULL,
        PRIMARY KEY (project, name)
    ) STRICT;
    """,
    """
    ALTER TABLE storage_volumes ADD COLUMN directory TEXT NOT NULL DEFAULT '';           -- its name, in its pool
    ALTER TABLE storage_volume_snapshots ADD COLUMN directory TEXT NOT NULL DEFAULT '';
    """,
    """
    CREATE TABLE snapshots (
        instance   TEXT NOT NULL REFERENCES instances (name) ON DELETE CASCADE ON UPDATE CASCADE,
        name       TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL NOT NULL,                -- 0: never
        taken      TEXT NOT NULL,                -- the columns of the instance as it was
        PRIMARY KEY (instance, name)
    ) STRICT;
    """,
    """
    ALTER TABLE images ADD COLUMN certificate TEXT NOT NULL DEFAULT '';  -- PEM, by which its server is trusted
    """,
    """
    ALTER TABLE images ADD COLUMN projects TEXT NOT NULL DEFAULT '["default"]';
    ALTER TABLE image_aliases RENAME TO old_image_aliases;
    CREATE TABLE image_aliases (
        project     TEXT NOT NULL,
        name        TEXT NOT NULL,
        fingerprint TEXT NOT NULL REFERENCES images (fingerprint) ON DELETE CASCADE,
        description TEXT NOT NULL,
        PRIMARY KEY (project, name)
    ) STRICT;
    INSERT INTO image_aliases SELECT 'default', name, fingerprint, description FROM old_image_aliases;
    DROP TABLE old_image_aliases;
    """,
    """
    CREATE TABLE instance_backups (
        instance      TEXT NOT NULL REFERENCES instances (name) ON DELETE CASCADE ON UPDATE CASCADE,
        name          TEXT NOT NULL,
        created_at    REAL NOT NULL,
        expires_at    REAL NOT NULL,             -- 0: never
        instance_only INTEGER NOT NULL,
        file          TEXT NOT NULL,
        PRIMARY KEY (instance, name)
    ) STRICT;
    """,
    """
    ALTER TABLE storage_volume_snapshots ADD COLUMN expires_at REAL NOT NULL DEFAULT 0;  -- 0: never
    """,
    """
    CREATE TABLE storage_volume_backups (
        pool        TEXT NOT NULL,
        project     TEXT NOT NULL,
        volume      TEXT NOT NULL,
        name        TEXT NOT NULL,
        created_at  REAL NOT NULL,
        expires_at  REAL NOT NULL,               -- 0: never
        volume_only INTEGER NOT NULL,
        file        TEXT NOT NULL,
        PRIMARY KEY (pool, project, volume, name),
        FOREIGN KEY (pool, project, volume) REFERENCES storage_volumes (pool, project, name)
            ON DELETE CASCADE ON UPDATE CASCADE
    ) STRICT;
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that are missing, each in one transaction. Raises WorkerError for a newer database."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_STEPS):
        raise WorkerError(f"The database is of a newer lxdpy (schema {version}; this one knows {len(_STEPS)})")
    for number, step in enumerate(_STEPS[version:], start=version + 1):
        connection.executescript(f"BEGIN; {step} PRAGMA user_version = {number}; COMMIT;")
