"""Composition root: builds every object once, serves the socket, handles signals."""
