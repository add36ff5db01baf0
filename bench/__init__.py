"""Speed and memory of lxdpy beside docker, LXD, podman and skopeo + umoci: `make bench`, docs/performance.md."""
