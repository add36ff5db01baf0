"""What lxdpy does: plain Python, no HTTP, no system calls."""
