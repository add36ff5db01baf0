"""OCI image documents as types; pure functions, no I/O."""
