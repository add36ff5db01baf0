"""What is deleted from the store goes by and by: nobody waits for it."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lxdpy.linux.remove import remove

logger = logging.getLogger(__name__)


class Bin:
    """Deletes in the background, one tree after the other."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="trash")

    def put(self, path: Path) -> None:
        """Remove `path` by and by; when that fails, the log has it, and the next start tries again."""
        self._executor.submit(_remove_and_log, path)

    def close(self) -> None:
        """Finish the tree that is being removed, and leave the others."""
        self._executor.shutdown(cancel_futures=True)


def _remove_and_log(path: Path) -> None:
    try:
        remove(path)
    except OSError as exc:
        logger.warning("Cannot remove %s: %s", path, exc)
