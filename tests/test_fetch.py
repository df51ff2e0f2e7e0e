"""Downloads against a server of this machine that is cut, changed, throttled and wrong on purpose."""

import errno
import gzip
import hashlib
import itertools
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from layouts import manifest

from clippan_lib.data import download, load_manifest
from clippan_lib.data.fetch import RECORD, fetch
from clippan_lib.errors import DataError

BODY = bytes(range(256)) * 1200
OTHER = BODY[::-1]
HALF = len(BODY) // 2
NBU = {"kind": "nbu", "lrms_dir": "MS", "pan_dir": "PAN", "keys": {"lrms": "a", "pan": "b"}}
MANIFESTS = sorted((Path(__file__).parents[1] / "data_manifests").glob("*.yaml"))


class Source:
    """What the server holds and which faults it plays, one per request, in order.

    A fault is a status to answer with, or the number of bytes after which the connection is cut.
    """

    def __init__(self) -> None:
        self.body, self.etag, self.date = BODY, '"one"', "Sat, 21 Nov 2026 00:00:00 GMT"
        self.ranges, self.checks_if_range, self.length, self.shift = True, True, True, 0
        self.type, self.faults, self.requests, self.retry_after = "application/octet-stream", [], [], None
        self.url = ""

    def change(self) -> None:
        self.body, self.etag, self.date = OTHER, '"two"', "Sun, 22 Nov 2026 00:00:00 GMT"


@pytest.fixture
def source() -> Iterator[Source]:
    held = Source()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

        def do_GET(self) -> None:  # noqa: N802
            held.requests.append({key.lower(): value for key, value in self.headers.items()})
            fault = held.faults.pop(0) if held.faults else None
            if fault is not None and fault < 600:
                self.send_response(fault)
                if held.retry_after:
                    self.send_header("Retry-After", held.retry_after)
                self.end_headers()
                return
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            same = self.headers.get("If-Range") in (held.etag, held.date) or not held.checks_if_range
            start = int(asked[1]) - held.shift if asked and held.ranges and same else 0
            if start >= len(held.body):
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(held.body) - 1}/{len(held.body)}")
            if held.length:
                self.send_header("Content-Length", str(len(held.body) - start - (held.shift if start else 0)))
            for key, value in (
                ("ETag", held.etag),
                ("Last-Modified", held.date),
                ("Content-Type", held.type),
            ):
                if value:
                    self.send_header(key, value)
            self.end_headers()
            end = len(held.body) - (held.shift if start else 0)
            self.wfile.write(held.body[start : end if fault is None else start + fault])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.url = f"http://127.0.0.1:{server.server_address[1]}/file"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield held
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def scripted() -> Iterator[Callable[..., str]]:
    """Starts servers that answer as a script says, byte by byte; gives the address of each."""
    servers, released = [], threading.Event()

    def start(*answers: Callable[[Any, threading.Event], None]) -> str:
        left = [*answers]

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                while self.rfile.readline().strip():
                    pass
                with suppress(OSError):
                    (left.pop(0) if len(left) > 1 else left[0])(self.wfile, released)

        server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/file"

    yield start
    released.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def answer(*headers: str, body: bytes = BODY, status: str = "200 OK"):
    """An answer that is sent at once, after which the connection is closed."""
    head = "".join(
        f"{line}\r\n" for line in (f"HTTP/1.1 {status}", 'ETag: "one"', "Connection: close", *headers, "")
    )
    return lambda out, released: out.write(head.encode() + body)


def from_address(url: str):
    held = {"kind": "mat_pair", "path": "a.mat", "keys": {"lrms": "x", "pan": "y"}}
    return manifest(held, downloads={"a.mat": {"url": url}})


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """Seconds that would have been waited between attempts."""
    waited = []
    clock = SimpleNamespace(sleep=waited.append, monotonic=lambda: sum(waited))
    monkeypatch.setattr(download, "time", clock)
    return waited


def one_file(source: Source, sha256: str | None = None):
    held = {"kind": "mat_pair", "path": "in/a.mat", "keys": {"lrms": "x", "pan": "y"}, "sha256": sha256}
    return manifest(held, downloads={"in/a.mat": {"url": source.url}})


def get(manifest, root, progress=None):
    return fetch(manifest, root, lambda text: None, progress)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def refused(manifest, root, *said: str) -> None:
    with pytest.raises(DataError) as refusal:
        get(manifest, root)
    for words in said:
        assert words in str(refusal.value)


def test_a_file_is_downloaded_whole_and_its_first_hash_is_recorded(tmp_path, source):
    fetched = get(one_file(source), tmp_path / "new")
    assert fetched == type(fetched)(("in/a.mat",), (), (), "")
    assert (tmp_path / "new/in/a.mat").read_bytes() == BODY
    assert files(tmp_path / "new") == {"in/a.mat", RECORD}
    assert json.loads((tmp_path / "new" / RECORD).read_text()) == {"in/a.mat": sha256(BODY)}
    assert source.requests[0]["user-agent"].startswith("clippan/")
    assert "range" not in source.requests[0]


def test_a_hash_that_the_manifest_states_is_checked_and_not_recorded(tmp_path, source):
    get(one_file(source, sha256(BODY)), tmp_path)
    assert files(tmp_path) == {"in/a.mat"}


def test_what_netrc_has_is_not_sent_to_anybody(tmp_path, source, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    get(one_file(source), tmp_path / "data")
    assert "authorization" not in source.requests[0]


def test_licence_citation_and_homepage_are_shown_before_anything_is_asked_for(tmp_path, source):
    shown = []
    fetch(one_file(source), tmp_path, lambda text: shown.append((text, len(source.requests))))
    assert shown == [("t\nLicence: l\nCitation: c\nHomepage: h", 0)]


def test_a_file_that_is_there_is_not_asked_for_again(tmp_path, source):
    get(one_file(source), tmp_path)
    assert get(one_file(source), tmp_path).present == ("in/a.mat",)
    assert len(source.requests) == 1


def test_progress_counts_the_bytes_to_the_end(tmp_path, source, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 100_000)
    calls = []
    get(one_file(source), tmp_path, lambda *call: calls.append(call))
    assert [done for _, done, _, _ in calls] == [100_000, 200_000, 300_000, 307_200]
    assert {(label, whole) for label, _, whole, _ in calls} == {("in/a.mat", len(BODY))}


@pytest.mark.parametrize("etag", ['"one"', None, 'W/"one"'])
def test_a_cut_connection_is_continued_where_it_stopped(tmp_path, source, etag):
    source.etag, source.faults = etag, [HALF]
    get(one_file(source), tmp_path)
    assert (tmp_path / "in/a.mat").read_bytes() == BODY
    assert source.requests[1]["range"] == f"bytes={HALF}-"
    assert source.requests[1]["if-range"] == ('"one"' if etag == '"one"' else source.date)


def test_a_later_call_goes_on_from_the_part_that_an_earlier_one_left(tmp_path, source):
    source.faults = [HALF, 500, 500, 500, 500, 500]
    refused(
        one_file(source), tmp_path, source.url, f"{HALF} bytes are kept", "a.mat.part", "goes on from there"
    )
    assert files(tmp_path) == {"in/a.mat.part", "in/a.mat.part.json"}
    source.faults = []
    get(one_file(source), tmp_path)
    assert source.requests[-1]["range"] == f"bytes={HALF}-"
    assert files(tmp_path) == {"in/a.mat", RECORD}


def test_a_part_that_is_complete_is_not_asked_for_again(tmp_path, source, monkeypatch):
    replace = os.replace

    def killed_before_the_last(old, new):
        if new == tmp_path / "in/a.mat":
            raise OSError(errno.EIO, "killed")
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed_before_the_last)
        refused(one_file(source), tmp_path, "killed")
    assert files(tmp_path) == {"in/a.mat.part", "in/a.mat.part.json", RECORD}
    get(one_file(source), tmp_path)
    assert (tmp_path / "in/a.mat").read_bytes() == BODY
    assert len(source.requests) == 1


def test_attempts_that_bring_new_bytes_are_not_counted(tmp_path, source, waits):
    source.faults = [30_000] * 8
    get(one_file(source), tmp_path)
    assert (tmp_path / "in/a.mat").read_bytes() == BODY
    assert waits == [1.0] * 8


@pytest.mark.parametrize("lost", ["ranges", "etag and date"])
def test_without_ranges_or_anything_to_tell_files_apart_it_starts_over(tmp_path, source, lost):
    source.faults = [HALF]
    if lost == "ranges":
        source.ranges = False
    else:
        source.etag = source.date = None
    get(one_file(source), tmp_path)
    assert (tmp_path / "in/a.mat").read_bytes() == BODY
    assert ("range" in source.requests[1]) == (lost == "ranges")


def test_a_range_that_begins_elsewhere_than_asked_is_not_appended(tmp_path, source):
    source.faults, source.shift = [HALF], 1000
    get(one_file(source), tmp_path)
    assert (tmp_path / "in/a.mat").read_bytes() == BODY


def test_a_server_that_never_sends_the_whole_file_is_given_up(tmp_path, source, waits):
    source.ranges, source.faults = False, [HALF] * 20
    refused(one_file(source), tmp_path, f"closed after {HALF} of {len(BODY)} bytes, after 5 attempts")
    assert len(source.requests) == 5
    assert waits == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("checks_if_range", [True, False])
@pytest.mark.parametrize("longer", [0, 7])
def test_a_file_that_changed_between_two_attempts_is_not_mixed(tmp_path, source, checks_if_range, longer):
    source.faults, source.checks_if_range = [HALF, 404], checks_if_range
    refused(one_file(source), tmp_path, "404")
    source.change()
    source.body += bytes(longer)
    get(one_file(source), tmp_path)
    assert (tmp_path / "in/a.mat").read_bytes() == OTHER + bytes(longer)


def test_a_file_that_became_shorter_than_the_part_is_fetched_anew(tmp_path, source):
    source.faults, source.checks_if_range = [HALF, 404], False
    refused(one_file(source), tmp_path, "404")
    source.body, source.etag = BODY[:1000], '"two"'
    get(one_file(source), tmp_path)
    assert (tmp_path / "in/a.mat").read_bytes() == BODY[:1000]


def test_a_part_of_another_address_or_without_memory_is_not_continued(tmp_path, source):
    folder = tmp_path / "in"
    folder.mkdir()
    memory = {"url": source.url + "2", "validator": source.etag, "size": len(BODY)}
    for content in (json.dumps(memory), "half a li", None):
        (folder / "a.mat").unlink(missing_ok=True)
        (folder / "a.mat.part").write_bytes(OTHER)
        if content is not None:
            (folder / "a.mat.part.json").write_text(content)
        get(one_file(source, sha256(BODY)), tmp_path)
        assert "range" not in source.requests[-1]


def test_a_file_whose_length_is_not_said_is_fetched(tmp_path, source):
    source.length, calls = False, []
    get(one_file(source), tmp_path, lambda *call: calls.append(call))
    assert (tmp_path / "in/a.mat").read_bytes() == BODY
    assert {whole for _, _, whole, _ in calls} == {0}


def test_a_download_of_another_hash_than_the_manifests_is_kept_aside(tmp_path, source):
    stated = sha256(OTHER)
    refused(one_file(source, stated), tmp_path, source.url, sha256(BODY), f"manifest mine says {stated}")
    assert files(tmp_path) == {"in/a.mat.refused"}
    assert (tmp_path / "in/a.mat.refused").read_bytes() == BODY
    source.body = OTHER
    get(one_file(source, stated), tmp_path)
    assert (tmp_path / "in/a.mat").read_bytes() == OTHER


def test_a_source_that_changed_since_the_first_download_is_refused(tmp_path, source):
    get(one_file(source), tmp_path)
    (tmp_path / "in/a.mat").unlink()
    source.change()
    refused(
        one_file(source), tmp_path, str(tmp_path / RECORD), sha256(BODY), sha256(OTHER), "source has changed"
    )
    assert files(tmp_path) == {"in/a.mat.refused", RECORD}
    assert json.loads((tmp_path / RECORD).read_text()) == {"in/a.mat": sha256(BODY)}


@pytest.mark.parametrize("stated", [True, False])
def test_a_file_that_is_there_with_another_hash_is_refused_and_left_alone(tmp_path, source, stated):
    dataset = one_file(source, sha256(BODY) if stated else None)
    get(dataset, tmp_path)
    (tmp_path / "in/a.mat").write_bytes(BODY[:-1])
    refused(dataset, tmp_path, f"{tmp_path}/in/a.mat: sha256 is {sha256(BODY[:-1])}", "move the file away")
    assert (tmp_path / "in/a.mat").read_bytes() == BODY[:-1]


@pytest.mark.parametrize("content", ["{half", "[1, 2]"])
def test_a_spoilt_record_of_hashes_is_refused(tmp_path, source, content):
    (tmp_path / RECORD).write_text(content)
    refused(one_file(source), tmp_path, RECORD, "is no record of hashes", "remove it")


@pytest.mark.parametrize(
    ("status", "said"), [(404, "answers 404 Not Found"), (401, "login or consent"), (403, "login or consent")]
)
def test_an_address_that_gives_no_file_is_said_at_once_with_how_to_get_it(
    tmp_path, source, waits, status, said
):
    source.faults = [status]
    refused(one_file(source), tmp_path, source.url, said, f"by hand as {tmp_path}/in/a.mat. g")
    assert (len(source.requests), waits, files(tmp_path)) == (1, [], set())


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_refusal_is_asked_again(tmp_path, source, waits, status):
    source.faults = [status, status]
    get(one_file(source), tmp_path)
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("86400", 60.0), ("soon", 1.0)])
def test_a_server_that_asks_for_patience_gets_it_within_reason(tmp_path, source, waits, asked, waited):
    source.faults, source.retry_after = [429], asked
    get(one_file(source), tmp_path)
    assert waits == [waited]


def test_a_server_out_of_reach_is_given_up(tmp_path, source, waits):
    source.url = "http://127.0.0.1:9/gone"
    refused(one_file(source), tmp_path, source.url, "refused", "after 5 attempts", "0 bytes")
    assert len(waits) == 4


def test_a_source_with_a_false_certificate_is_refused_at_once(tmp_path, source, monkeypatch, waits):
    def no_proof(*_, **__):
        raise requests.exceptions.SSLError(
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed"
        )

    monkeypatch.setattr(requests.Session, "get", no_proof)
    refused(one_file(source), tmp_path, "cannot prove who it is", "by hand")
    assert waits == []


def test_a_web_page_in_place_of_the_file_is_refused(tmp_path, source):
    source.type = "text/html; charset=utf-8"
    refused(one_file(source), tmp_path, source.url, "a web page", "by hand")
    assert files(tmp_path) == set()


def test_too_small_a_disk_is_said_before_the_first_byte(tmp_path, source, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    refused(one_file(source), tmp_path, "no room", f"{len(BODY)} more bytes are needed, 1000 are free")
    assert "in/a.mat" not in files(tmp_path)


def test_a_disk_that_fills_up_leaves_a_part_to_go_on_from(tmp_path, source, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 100_000)
    opened = Path.open

    class Full:
        def __init__(self, file) -> None:
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_) -> None:
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, block: bytes) -> None:
            if self.file.tell() >= 200_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.file.write(block)

    def open_on_a_full_disk(path, mode="r", *args, **kwargs):
        file = opened(path, mode, *args, **kwargs)
        return Full(file) if path.suffix == ".part" and mode != "rb" else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_on_a_full_disk)
        refused(one_file(source), tmp_path, "a.mat.part: the disk has no room", f"{len(BODY) - 200_000} more")
    assert files(tmp_path) == {"in/a.mat.part", "in/a.mat.part.json"}
    get(one_file(source), tmp_path)
    assert source.requests[-1]["range"] == "bytes=200000-"
    assert (tmp_path / "in/a.mat").read_bytes() == BODY


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, source, monkeypatch):
    (tmp_path / "in").write_text("a file where a folder shall be")
    refused(one_file(source), tmp_path, "in/a.mat", "cannot be read or written", "may write to")

    def forbidden(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    refused(one_file(source), tmp_path / "no", "Permission denied", "may write to")


def test_what_has_no_address_is_named_with_how_to_get_it(tmp_path, source):
    fetched = get(manifest(NBU), tmp_path)
    assert fetched.by_hand == ("MS", "PAN")
    assert f"{tmp_path}/MS\n  {tmp_path}/PAN\ng" in fetched.advice
    assert source.requests == []
    for folder in ("MS", "PAN"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.mat").write_bytes(BODY)
    fetched = get(manifest(NBU), tmp_path)
    assert (fetched.present, fetched.by_hand, fetched.advice) == (("MS", "PAN"), (), "")


def test_files_got_by_hand_are_recorded_and_held_to_their_first_hash(tmp_path, source):
    held = {"kind": "pancollection", "files": {"test_reduced": "a.h5", "test_full": "b.h5"}}
    dataset = manifest(held, downloads={"a.h5": {"url": source.url, "sha256": sha256(BODY)}})
    assert get(dataset, tmp_path).by_hand == ("b.h5",)
    (tmp_path / "b.h5").write_bytes(OTHER)
    assert get(dataset, tmp_path).present == ("a.h5", "b.h5")
    assert json.loads((tmp_path / RECORD).read_text()) == {"b.h5": sha256(OTHER)}
    (tmp_path / "b.h5").write_bytes(BODY)
    refused(dataset, tmp_path, "b.h5", "written when it was first seen")


def test_files_of_an_nbu_folder_can_be_downloaded_one_by_one(tmp_path, source):
    dataset = manifest(NBU, downloads={"MS/1.mat": {"url": source.url}})
    fetched = get(dataset, tmp_path)
    assert (fetched.downloaded, fetched.present, fetched.by_hand) == (("MS/1.mat",), ("MS",), ("PAN",))


def test_synthetic_scenes_need_nothing(tmp_path):
    path = next(path for path in MANIFESTS if path.stem == "synthetic_wv3")
    fetched = get(load_manifest(path), tmp_path / "unused")
    assert fetched == type(fetched)((), (), (), "")
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("name", ["wv2_grip", "ikonos_grip"])
def test_the_real_scenes_have_the_hash_that_their_manifests_state(name, shared, tmp_path):
    dataset = load_manifest(next(path for path in MANIFESTS if path.stem == name))
    (path,) = dataset.downloads
    shutil.copy(shared / "data" / path, tmp_path)
    assert get(dataset, tmp_path).present == (path,)
    assert files(tmp_path) == {path}


@pytest.mark.parametrize("length", ["many", "-5", "1e6", "", "12, 13", "9" * 30, "5.0", "0x10"])
def test_a_length_that_is_no_number_is_named(tmp_path, scripted, length):
    url = scripted(answer(f"Content-Length: {length}"))
    refused(from_address(url), tmp_path, url, "Content-Length", length, "by hand")
    assert files(tmp_path) == set()


def test_a_length_that_is_said_twice_alike_is_one(tmp_path, scripted):
    url = scripted(answer(f"Content-Length: {len(BODY)}, {len(BODY)}"))
    get(from_address(url), tmp_path)
    assert (tmp_path / "a.mat").read_bytes() == BODY


def test_a_length_beyond_the_disk_is_named_before_the_first_byte(tmp_path, scripted):
    url = scripted(answer(f"Content-Length: {10**17}"))
    refused(from_address(url), tmp_path, "no room", f"{10**17} more bytes are needed")


def test_a_length_that_is_too_large_is_told_with_what_came(tmp_path, scripted):
    url = scripted(answer(f"Content-Length: {2 * len(BODY)}"))
    refused(
        from_address(url), tmp_path, f"closed after {len(BODY)} of {2 * len(BODY)} bytes", "after 5 attempts"
    )


@pytest.mark.parametrize(
    "placed",
    ["", "bytes", "bytes 0-", "bytes 5-9/10", "bytes -1-9/10", f"bytes 0-{len(BODY) - 1}/*", "items 0-9/10"],
)
def test_a_part_of_a_file_that_nobody_asked_for_is_named(tmp_path, scripted, placed):
    url = scripted(answer(f"Content-Range: {placed}", status="206 Partial Content"))
    refused(from_address(url), tmp_path, url, "Content-Range", "after 5 attempts")
    assert not (tmp_path / "a.mat").exists()


@pytest.mark.parametrize("packed", ["gzip", "br", "x-gzip"])
def test_a_file_that_is_packed_on_its_way_is_named_and_not_kept(tmp_path, scripted, packed):
    url = scripted(answer(f"Content-Encoding: {packed}", body=gzip.compress(BODY)))
    refused(from_address(url), tmp_path, url, f"Content-Encoding '{packed}'", "by hand")
    assert files(tmp_path) == set()


def test_the_source_is_asked_not_to_pack(tmp_path, source):
    get(one_file(source), tmp_path)
    assert source.requests[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://x.org/a", "gopher://x"])
def test_a_source_that_sends_on_to_another_kind_of_place_is_named(tmp_path, scripted, waits, place):
    url = scripted(answer(f"Location: {place}", "Content-Length: 0", body=b"", status="302 Found"))
    refused(from_address(url), tmp_path, url, "sends on to nowhere", place, "by hand")
    assert (waits, files(tmp_path)) == ([], set())


def test_a_source_that_sends_on_in_a_circle_is_named(tmp_path, scripted, waits):
    url = scripted(answer("Location: /file", "Content-Length: 0", body=b"", status="302 Found"))
    refused(from_address(url), tmp_path, url, "sends on to nowhere", "30 redirects", "by hand")
    assert waits == []


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "300 Multiple Choices", "999 What"])
def test_an_answer_that_is_no_file_is_named(tmp_path, scripted, waits, status):
    url = scripted(answer("Content-Length: 0", body=b"", status=status))
    refused(from_address(url), tmp_path, url, f"answers {status}", "by hand")
    assert (waits, files(tmp_path)) == ([], set())


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http://a b/c", "http://x.org:99999/a", "http://*"]
)
def test_an_address_that_is_none_is_named(tmp_path, url, waits):
    refused(from_address(url), tmp_path, url)
    assert files(tmp_path) == set()


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nA"])
def test_what_is_no_answer_at_all_is_given_up(tmp_path, scripted, said):
    url = scripted(lambda out, released: out.write(said))
    refused(from_address(url), tmp_path, url, "after 5 attempts")
    assert not (tmp_path / "a.mat").exists()


def test_an_empty_file_is_no_file(tmp_path, scripted):
    url = scripted(answer("Content-Length: 0", body=b""))
    refused(from_address(url), tmp_path, url, "an empty file, after 5 attempts")
    assert not (tmp_path / "a.mat").exists()


def test_a_cut_chunk_is_no_end_and_what_came_is_gone_on_from(tmp_path, scripted):
    half = b"%x\r\n%b\r\nff" % (HALF, BODY[:HALF])
    placed = f"Content-Range: bytes {HALF}-{len(BODY) - 1}/{len(BODY)}", f"Content-Length: {len(BODY) - HALF}"
    url = scripted(
        answer("Transfer-Encoding: chunked", body=half),
        answer(*placed, body=BODY[HALF:], status="206 Partial"),
    )
    get(from_address(url), tmp_path)
    assert (tmp_path / "a.mat").read_bytes() == BODY


def test_a_source_that_stalls_is_given_up_and_its_bytes_are_gone_on_from(
    tmp_path, scripted, source, monkeypatch
):
    monkeypatch.setattr(download, "TIMEOUT", 0.1)

    def stalls(out, released) -> None:
        answer(f"Content-Length: {len(BODY)}", f"Last-Modified: {source.date}", body=BODY[:HALF])(
            out, released
        )
        released.wait()

    url = scripted(stalls, lambda out, released: released.wait())
    refused(
        from_address(url),
        tmp_path,
        url,
        "timed out",
        f"{HALF} bytes are kept in {tmp_path}/a.mat.part",
        "5 attempts",
    )
    memory = tmp_path / "a.mat.part.json"
    memory.write_text(memory.read_text().replace(url, source.url))
    get(from_address(source.url), tmp_path)
    assert (tmp_path / "a.mat").read_bytes() == BODY and source.requests[0]["range"] == f"bytes={HALF}-"


def test_a_source_that_drips_is_given_up_although_bytes_come(tmp_path, scripted, monkeypatch, waits):
    ticks = itertools.count(0, 7.0)
    clock = SimpleNamespace(sleep=waits.append, monotonic=lambda: next(ticks))
    monkeypatch.setattr(download, "time", clock)

    def drips(out, released) -> None:
        answer("Content-Length: 1000", body=b"")(out, released)
        while not released.wait(0.001):
            out.write(b"x")

    url = scripted(drips)
    refused(from_address(url), tmp_path, url, "bytes came in 63 s, after 5 attempts", "goes on from there")


def test_a_source_that_gives_a_byte_at_each_attempt_is_given_up_in_the_end(
    tmp_path, scripted, waits, monkeypatch
):
    monkeypatch.setattr(download, "PATIENCE", 20.0)

    def byte(number: int):
        place = f"Content-Range: bytes {number}-9999/10000", f"Content-Length: {10_000 - number}"
        return answer(*place, body=b"x", status="206 Partial Content")

    first = answer("Content-Length: 10000", body=b"x")
    url = scripted(first, *(byte(number) for number in range(1, 2000)))
    refused(from_address(url), tmp_path, url, "of 10000 bytes", "bytes are kept", "goes on from there")
    assert sum(waits) == 21 and (tmp_path / "a.mat.part").stat().st_size == 22


def test_a_part_that_is_a_link_is_not_written_through(tmp_path, source):
    (tmp_path / "precious").write_bytes(OTHER[:HALF])
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.mat.part").symlink_to(tmp_path / "precious")
    memory = {"url": source.url, "validator": source.etag, "size": len(BODY)}
    (tmp_path / "in/a.mat.part.json").write_text(json.dumps(memory))
    get(one_file(source), tmp_path)
    assert (tmp_path / "precious").read_bytes() == OTHER[:HALF]
    assert (tmp_path / "in/a.mat").read_bytes() == BODY and not (tmp_path / "in/a.mat").is_symlink()
