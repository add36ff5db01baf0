"""A command on a terminal of its own, as a user at a keyboard has it."""

import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from typing import Self

_TIMEOUT_S = 30.0


class Terminal:
    """Runs `command`; leaving kills what is left of it."""

    def __init__(
        self, *command: str, environment: Mapping[str, str], size: tuple[int, int] = (80, 24), stdin: int | None = None
    ) -> None:
        """`size` is width and height; `stdin` instead of the terminal."""
        self._master, slave = os.openpty()
        self._output = bytearray()
        try:
            self._resize(size)
            self.process = subprocess.Popen(
                command,
                stdin=slave if stdin is None else stdin,
                stdout=slave,
                stderr=slave,
                env=dict(environment),
                start_new_session=True,
            )
        finally:
            os.close(slave)

    @property
    def pid(self) -> int:
        return self.process.pid

    def type(self, text: str) -> None:
        """Type keys, the next ones separately."""
        os.write(self._master, text.encode())

    def expect(self, text: str) -> str:
        """Wait until `text` is printed; what was printed until then, which is forgotten."""
        deadline = time.monotonic() + _TIMEOUT_S
        while (at := self._output.find(text.encode())) < 0:
            assert time.monotonic() < deadline, (text, bytes(self._output))
            assert self._read(), (text, bytes(self._output))
        end = at + len(text.encode())
        printed = self._output[:end].decode(errors="replace")
        del self._output[:end]
        return printed

    def resize(self, width: int, height: int) -> None:
        """Change the size, and tell the command."""
        self._resize((width, height))
        self.process.send_signal(signal.SIGWINCH)

    def end(self) -> tuple[int, str]:
        """Wait for the command's end: its exit code, and all that is left of what it printed."""
        while self._read():
            pass
        return self.process.wait(_TIMEOUT_S), self._output.decode(errors="replace")

    def _resize(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def _read(self) -> bool:
        """Read more; False when there will be none."""
        readable, _, _ = select.select([self._master], [], [], _TIMEOUT_S)
        assert readable, bytes(self._output)
        with contextlib.suppress(OSError):
            if data := os.read(self._master, 65536):
                self._output += data
                return True
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)
