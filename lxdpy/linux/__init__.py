"""Thin system-call wrappers: one call per function, kernel names, OSError with errno and path, no policy."""
