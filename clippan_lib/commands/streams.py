"""Standard output and standard error that may be closed, full, or read by nobody any more: the work goes on."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOBase
from typing import TextIO

Stream = TextIOBase | TextIO


class Lasting(TextIOBase):
    """A stream whose loss stops nothing: what it cannot take is forgotten.

    Args:
        stream: where to write; None if it was closed before the process began.
    """

    def __init__(self, stream: Stream | None) -> None:
        self._stream = stream
        self._gone = stream is None
        self.fault = "" if stream else "it is closed"
        """Why something is lost; "" if nothing is, or if its reader went away, who then had enough."""

    def write(self, text: str) -> int:
        try:
            self._attempt(lambda stream: stream.write(text))
        except UnicodeEncodeError as error:  # a name in bytes that are no text
            shown = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            self._attempt(lambda stream: stream.write(shown))
        return len(text)

    def flush(self) -> None:
        self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno() if self._stream else super().fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # an attribute there
        return getattr(self._stream, "encoding", None) or "utf-8"

    def _attempt(self, action: Callable[[Stream], object]) -> None:
        if self._gone or self._stream is None:
            return
        try:
            action(self._stream)
        except OSError as error:
            self._gone = True
            self.fault = "" if isinstance(error, BrokenPipeError) else error.strerror or str(error)

    def let_go(self) -> None:
        """So that the interpreter, which flushes once more in the end, finds nothing to complain of."""
        if self._gone and self._stream is not None:
            with suppress(OSError, ValueError):  # a stream without a descriptor
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self._stream.fileno())
                os.close(nothing)
                self._stream.flush()


@contextmanager
def lasting_streams() -> Iterator[Lasting]:
    """Put streams that last in the place of the process's own; gives that of standard output.

    What is printed and lost is told on standard error in the end.
    """
    _occupy()
    before = sys.stdout, sys.stderr
    out, err = Lasting(sys.stdout), Lasting(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield out
    finally:
        out.flush()
        if out.fault:
            print(f"clippan: what was printed is lost: standard output fails ({out.fault})", file=err)
        err.flush()
        sys.stdout, sys.stderr = before
        for stream in (out, err):
            stream.let_go()


def _occupy() -> None:
    """Take descriptors that are closed: else the next file that is opened gets one, and what libraries print."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
