"""Numbers of running containers, read from cgroup files and /proc."""
