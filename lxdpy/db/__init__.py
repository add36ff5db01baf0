"""SQLite: connection, schema, one query module per table."""
