"""One file over HTTP: resumed if the source still has the same one, complete or under another name.

A download grows in `NAME.part`. `NAME.part.json` beside it keeps what the server said of the file; a later
attempt goes on from the part only if the server says the same again (RFC 9110, If-Range and Content-Range).
"""

import errno
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from clippan_lib import __version__
from clippan_lib.errors import DataError
from clippan_lib.files import read_json, write_json

ATTEMPTS = 5  # in a row without a new byte
TIMEOUT = 30.0  # s without an answer, or without a byte
LONGEST_WAIT = 60.0  # s between two attempts, whatever the server asks for
FLOOR, WINDOW = 60_000, 60.0  # less bytes than that in so many s, and the connection is given up
PATIENCE = 900.0  # s in which attempts together have to bring as many
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
        known = said and said["url"] == url and said["validator"] and self.size
        if known and not self.file.is_symlink():  # what is written through a link is no part of ours
            return said
        self.forget()
        return {}

    def forget(self) -> None:
        # the part first: memory without a part is harmless, a part with the memory of another file is not
        self.file.unlink(missing_ok=True)
        self.memory.unlink(missing_ok=True)


class _Interrupted(Exception):
    """An attempt that failed for a reason which may pass.

    Args:
        reason: in words.
        wait: s before the next; None for more after each.
        slow: bytes came, but too few to go on in this way.
    """

    def __init__(self, reason: object, wait: float | None = None, slow: bool = False) -> None:
        super().__init__(str(reason))
        self.wait, self.slow = wait, slow


def download(url: str, part: PartialFile, remedy: str, report: Report) -> None:
    """Attempt until the part is the whole file; attempts that brought new bytes are not counted.

    Args:
        url: http or https.
        part: partial copy of the file; its folder must exist.
        remedy: what a user does if the address gives no file.
        report: called with (bytes done, bytes in all or 0 if the server does not say).
    Raises: DataError for an address that gives no file, headers that cannot be right, a source that stays out of reach
        or is too slow (the part is kept), or a disk that is full or cannot be written.
    """
    failures, most = 0, part.size
    grown, since = part.size, time.monotonic()
    while True:
        try:
            return _attempt(url, part, remedy, report)
        except _Interrupted as error:
            failures = 1 if part.size > most and not error.slow else failures + 1
            most = max(most, part.size)
            if most - grown >= FLOOR:
                grown, since = most, time.monotonic()
            if failures >= ATTEMPTS or time.monotonic() - since > PATIENCE:
                raise DataError(
                    f"{url}: {error}, after {failures} attempts; {part.size} bytes are kept in {part.file}. "
                    "Fetch again later: it goes on from there"
                ) from error
            time.sleep(2.0 ** (failures - 1) if error.wait is None else error.wait)


def _attempt(url: str, part: PartialFile, remedy: str, report: Report) -> None:
    said = part.remembered(url)
    start = part.size
    if said and start == said["size"]:
        return
    headers = {"User-Agent": f"clippan/{__version__}", "Accept-Encoding": "identity"}
    if said:
        headers |= {"Range": f"bytes={start}-", "If-Range": said["validator"]}
    with _open(url, headers, part, remedy) as response:
        first, now = _said(url, response, remedy)
        if response.status_code == 206:
            same = [now[name] for name in said if said[name]] == [value for value in said.values() if value]
            if first != start or not same:
                part.forget()
                seen = response.headers.get("Content-Range")
                raise _Interrupted(
                    f"the file changed at the source while it was fetched (Content-Range {seen!r} for byte {start})",
                    wait=0.0,
                )
        else:
            start = 0
            part.forget()
            write_json(part.memory, now)
        _append(response, part, start, now["size"], report)


class _SystemTrust(HTTPAdapter):
    """Certificates that the system trusts count beside those that requests brings."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=ssl.create_default_context(), **kwargs)


def _open(url: str, headers: dict[str, str], part: PartialFile, remedy: str) -> requests.Response:
    with requests.Session() as session:
        session.mount("https://", _SystemTrust())
        session.auth = lambda request: request  # else requests sends what ~/.netrc has
        try:
            response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        except (requests.TooManyRedirects, requests.exceptions.InvalidSchema) as error:
            raise DataError(f"{url}: the source sends on to nowhere ({error}); {remedy}") from error
        except requests.exceptions.SSLError as error:
            if "certificate verify failed" not in str(error).lower():
                raise _Interrupted(error) from error
            raise DataError(f"{url}: the source cannot prove who it is ({error}); {remedy}") from error
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise _Interrupted(error) from error
        except (requests.RequestException, ValueError) as error:
            raise DataError(
                f"{url}: cannot be asked, or answers what is no answer ({error}); {remedy}"
            ) from error
    try:
        _refuse_answer(url, response, "Range" in headers, part, remedy)
    except BaseException:
        response.close()
        raise
    return response


def _refuse_answer(
    url: str, response: requests.Response, continued: bool, part: PartialFile, remedy: str
) -> None:
    answer = f"the source answers {response.status_code} {response.reason}"
    if response.status_code == 416 and continued:
        part.forget()
        raise _Interrupted(answer, wait=0.0)
    if response.status_code in TRANSIENT:
        raise _Interrupted(answer, _retry_after(response.headers.get("Retry-After", "")))
    if response.status_code not in (200, 206):
        asks = " (a login or consent is asked for)" if response.status_code in (401, 403) else ""
        raise DataError(f"{url}: {answer}{asks}; {remedy}")
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
        raise DataError(f"{url}: the source sent a web page, not the file (a login or consent?); {remedy}")
    packed = response.headers.get("Content-Encoding", "identity")
    if packed.lower() not in ("identity", ""):
        raise DataError(
            f"{url}: the source sends the file packed (Content-Encoding {packed!r}), though asked not to; {remedy}"
        )


def _retry_after(text: str) -> float | None:
    return min(float(text), LONGEST_WAIT) if text.isdecimal() else None


def _said(url: str, response: requests.Response, remedy: str) -> tuple[int, dict[str, Any]]:
    """The byte that an answer begins with, and what identifies the file at the source.

    The latter is a strong ETag, or the date of the last change.
    """
    etag, date = response.headers.get("ETag", ""), response.headers.get("Last-Modified")
    length, placed = _number(url, response, "Content-Length", remedy), None
    first = 0
    if response.status_code == 206:
        placed = re.fullmatch(
            r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", response.headers.get("Content-Range", "")
        )
        first = int(placed[1]) if placed else -1
    validator = etag if etag.startswith('"') else date
    return first, {"url": url, "validator": validator, "size": int(placed[3]) if placed else length}


def _number(url: str, response: requests.Response, name: str, remedy: str) -> int | None:
    """A header that counts; None if there is none."""
    if name not in response.headers:
        return None
    text = response.headers[name]
    [*found] = {each.strip() for each in text.split(",")}  # a proxy may have said it twice
    if len(found) != 1 or not re.fullmatch(r"[0-9]{1,18}", found[0]):
        raise DataError(f"{url}: the source's header {name} is {text[:100]!r}, which is no number; {remedy}")
    return int(found[0])


def _append(
    response: requests.Response, part: PartialFile, start: int, size: int | None, report: Report
) -> None:
    done, whole = start, size or 0
    if whole - start > shutil.disk_usage(part.file.parent).free:
        raise _full(part.file, whole)
    with explained(part.file, whole), part.file.open("r+b" if start else "wb") as file:
        file.seek(start)
        try:
            for block in _blocks(response):
                file.write(block)
                done += len(block)
                report(done, whole)
        finally:
            file.flush()
            os.fsync(file.fileno())
    if not done:
        raise _Interrupted("the source sent an empty file")
    if size is not None and done != size:
        raise _Interrupted(f"the connection closed after {done} of {size} bytes")


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """The bytes that come; whatever came before an interruption is given before that is raised."""
    kept, came, began = bytearray(), 0, time.monotonic()
    ended: _Interrupted | None = None
    while ended is None:
        try:
            new = response.raw.read1(CHUNK - len(kept), decode_content=False)
        except urllib3.exceptions.ProtocolError as error:
            if "Content-Length" not in response.headers:  # else the caller says how much is missing
                ended = _Interrupted(error)
            break
        except (OSError, urllib3.exceptions.HTTPError) as error:
            ended = _Interrupted(error)
            break
        if not new:
            break
        kept += new
        came += len(new)
        if len(kept) == CHUNK:
            yield bytes(kept)
            kept.clear()
        took = time.monotonic() - began
        if took > WINDOW:
            if came < FLOOR:
                ended = _Interrupted(f"only {came} bytes came in {took:.0f} s", slow=True)
            came, began = 0, time.monotonic()
    if kept:
        yield bytes(kept)
    if ended is not None:
        raise ended
