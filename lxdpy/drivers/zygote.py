"""Fork servers: how the daemon spawns and speaks to its workers."""
