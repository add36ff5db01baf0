"""Processes outside the daemon."""
