"""One file over HTTP: resumed if the source still has the same one, complete or under another name.

A download grows in `NAME.part`. `NAME.part.json` beside it keeps what the server said of the file; a later
attempt goes on from the part only if the server says the same again (RFC 9110, If-Range and Content-Range).
"""

import email.message
import errno
import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clippan_lib import __version__
from clippan_lib.errors import DataError
from clippan_lib.files import read_json, write_json

ATTEMPTS = 5  # in a row without a new byte
TIMEOUT = 60.0  # s without an answer
LONGEST_WAIT = 60.0  # s between two attempts, whatever the server asks for
CHUNK = 2**20
TRANSIENT = (408, 429, 500, 502, 503, 504)
Report = Callable[[int, int], Any]


@contextmanager
def explained(path: Path, whole: int = 0) -> Iterator[None]:
    """Turn the disk's errors on a file that shall have `whole` bytes into DataError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(path, whole) from error
        raise DataError(
            f"{path}: cannot be read or written ({error.strerror}); give a data folder that you may write to"
        ) from error


def _full(path: Path, whole: int) -> DataError:
    there = path.stat().st_size if path.exists() else 0
    needed = f"{whole - there} more bytes are needed, " if whole else ""
    free = shutil.disk_usage(path.parent).free
    return DataError(
        f"{path}: the disk has no room: {needed}{free} are free; make room, then fetch again to go on"
    )


@dataclass(frozen=True)
class PartialFile:
    """What is there of a file, and what the server said of the whole.

    Args:
        target: the file's path once it is complete.
    """

    target: Path

    @property
    def file(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def memory(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")

    @property
    def size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def remembered(self, url: str) -> dict[str, Any]:
        """What the server said, if a part of that address can be continued; else nothing, and no part."""
        try:
            said = read_json(self.memory)
        except ValueError:
            said = None
        if said and said["url"] == url and said["validator"] and self.size:
            return said
        self.forget()
        return {}

    def forget(self) -> None:
        # the part first: memory without a part is harmless, a part with the memory of another file is not
        self.file.unlink(missing_ok=True)
        self.memory.unlink(missing_ok=True)


class _Interrupted(Exception):
    """An attempt that failed for a reason which may pass."""

    def __init__(self, reason: object, wait: float | None = None) -> None:
        super().__init__(str(reason))
        self.wait = wait


def download(url: str, part: PartialFile, remedy: str, report: Report) -> None:
    """Attempt until the part is the whole file; attempts that brought new bytes are not counted.

    Args:
        url: http or https.
        part: of the file; its folder must exist.
        remedy: what a user does if the address gives no file.
        report: called with (bytes done, bytes in all or 0 if the server does not say).
    Raises: DataError for an address that gives no file, a source that stays out of reach (the part is kept),
        or a disk that is full or cannot be written.
    """
    failures, most = 0, part.size
    while True:
        try:
            return _attempt(url, part, remedy, report)
        except _Interrupted as error:
            failures = 1 if part.size > most else failures + 1
            most = max(most, part.size)
            if failures == ATTEMPTS:
                raise DataError(
                    f"{url}: {error}, after {ATTEMPTS} attempts; {part.size} bytes are kept in {part.file}. "
                    "Fetch again later: it goes on from there"
                ) from error
            time.sleep(2.0 ** (failures - 1) if error.wait is None else error.wait)


def _attempt(url: str, part: PartialFile, remedy: str, report: Report) -> None:
    said = part.remembered(url)
    start = part.size
    if said and start == said["size"]:
        return
    headers = {"User-Agent": f"clippan/{__version__}"}
    if said:
        headers |= {"Range": f"bytes={start}-", "If-Range": said["validator"]}
    with _open(url, headers, part, remedy) as response:
        now = _said(url, response)
        if response.status == 206:
            if _range_start(response) != start or now != said:
                part.forget()
                raise _Interrupted("the file changed at the source while it was fetched", wait=0.0)
        else:
            start = 0
            part.forget()
            write_json(part.memory, now)
        _append(response, part, start, now["size"], report)


def _open(url: str, headers: dict[str, str], part: PartialFile, remedy: str) -> http.client.HTTPResponse:
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the source answers {error.code} {error.reason}"
        if error.code == 416 and "Range" in headers:
            part.forget()
            raise _Interrupted(answer, wait=0.0) from error
        if error.code in TRANSIENT:
            raise _Interrupted(answer, _retry_after(error.headers)) from error
        asks = " (a login or consent is asked for)" if error.code in (401, 403) else ""
        raise DataError(f"{url}: {answer}{asks}; {remedy}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DataError(f"{url}: the source cannot prove who it is ({reason}); {remedy}") from error
        raise _Interrupted(reason) from error
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise DataError(f"{url}: the source sent a web page, not the file (a login or consent?); {remedy}")
    return response


def _retry_after(headers: email.message.Message) -> float | None:
    text = headers.get("Retry-After", "")
    return min(float(text), LONGEST_WAIT) if text.isdecimal() else None


def _said(url: str, response: http.client.HTTPResponse) -> dict[str, Any]:
    """What identifies the file at the source: a strong ETag, or the date of its last change."""
    etag, date = response.headers.get("ETag", ""), response.headers.get("Last-Modified")
    total = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    length = total[1] if total else response.headers.get("Content-Length")
    validator = etag if etag.startswith('"') else date
    return {"url": url, "validator": validator, "size": None if length is None else int(length)}


def _range_start(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _append(
    response: http.client.HTTPResponse, part: PartialFile, start: int, size: int | None, report: Report
) -> None:
    done, whole = start, size or 0
    if whole - start > shutil.disk_usage(part.file.parent).free:
        raise _full(part.file, whole)
    with explained(part.file, whole), part.file.open("r+b" if start else "wb") as file:
        file.seek(start)
        while block := _read(response):
            file.write(block)
            done += len(block)
            report(done, whole)
        file.flush()
        os.fsync(file.fileno())
    if size is not None and done != size:
        raise _Interrupted(f"the connection closed after {done} of {size} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(error) from error
