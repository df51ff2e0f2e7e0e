"""Getting a dataset: files with a known address are downloaded, the others are named with how to get them.

A file gets its name once it is complete and its SHA-256 is the one that the manifest states. Where it states
none, the first hash seen is recorded in `.clippan-sha256.json` of the data folder, and holds from then on.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from os.path import isdir, isfile
from pathlib import Path

from clippan_lib.data.below import find_below
from clippan_lib.data.download import PartialFile, download, explained
from clippan_lib.data.manifest import Manifest
from clippan_lib.errors import DataError
from clippan_lib.files import file_digest, read_json, write_json
from clippan_lib.shapes import Progress

RECORD = ".clippan-sha256.json"


@dataclass(frozen=True)
class Fetched:
    """What `fetch` did, as paths below the data folder.

    Args:
        downloaded: new files.
        present: files that were there, of the hash stated or recorded, and folders with files (not hashed).
        by_hand: what is missing and has no direct address.
        advice: what to do about `by_hand`; empty if nothing is missing.
    """

    downloaded: tuple[str, ...]
    present: tuple[str, ...]
    by_hand: tuple[str, ...]
    advice: str


def fetch(
    manifest: Manifest,
    root: str | Path,
    announce: Callable[[str], None],
    progress: Progress | None = None,
) -> Fetched:
    """Get the files of a dataset; called again after any failure, it goes on where it was.

    Args:
        manifest: manifest of the dataset.
        root: the data folder, `data_root` of `open_dataset`; made if it is not there.
        announce: called with the title, licence, citation and homepage before any address is asked.
        progress: called with (path, bytes done, bytes in all or 0 if the server does not say, {}).
    Returns: what was downloaded, what was there, and what is to be got by hand.
    Raises: DataError, naming file or address and the remedy, for a file of another hash (one that was there
        stays, a download is kept as NAME.refused), a link that leads out of the folder, an address that gives no
        file, a source that stays out of reach, or a folder that is full or cannot be written.
    """
    announce(
        f"{manifest.title}\nLicence: {manifest.licence}\nCitation: {manifest.citation}\n"
        f"Homepage: {manifest.homepage}"
    )
    root, downloaded, present, by_hand = Path(root), [], [], []
    for path in dict.fromkeys((*manifest.downloads, *manifest.source.paths)):
        target = find_below(root, path)
        if isfile(target):
            _check_present(manifest, root, path)
            present.append(path)
        elif path in manifest.downloads:
            _get(manifest, root, path, progress)
            downloaded.append(path)
        elif isdir(target) and any(target.iterdir()):
            present.append(path)
        else:
            by_hand.append(path)
    missing = "".join(f"\n  {root / path}" for path in by_hand)
    advice = f"Missing, and no direct address is known:{missing}\n{manifest.how_to_get}" if by_hand else ""
    return Fetched(tuple(downloaded), tuple(present), tuple(by_hand), advice)


def _check_present(manifest: Manifest, root: Path, path: str) -> None:
    fault = _fault(manifest, root, path, _sha256(root / path))
    if fault is not None:
        raise DataError(
            f"{root / path}: {fault}; move the file away and fetch it again, "
            "or correct the hash if you mean this one"
        )


def _get(manifest: Manifest, root: Path, path: str, progress: Progress | None) -> None:
    """Download one file under its name, or raise and leave nothing there."""
    target, url = root / path, manifest.downloads[path].url
    part = PartialFile(target)

    def report(done: int, whole: int) -> None:
        if progress is not None:
            progress(path, done, whole, {})

    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        download(url, part, f"get the file by hand as {target}. {manifest.how_to_get}", report)
        fault = _fault(manifest, root, path, _sha256(part.file))
        if fault is None:
            os.replace(part.file, target)
            part.forget()
            return
        aside = target.with_name(f"{target.name}.refused")
        os.replace(part.file, aside)
        part.forget()
    raise DataError(
        f"{url}: {fault}; what came is kept as {aside}. Fetch again; if the same comes again, "
        "the source has changed: correct the hash if you mean the new file"
    )


def _sha256(path: Path) -> str:
    with explained(path):
        return file_digest(path)


def _fault(manifest: Manifest, root: Path, path: str, seen: str) -> str | None:
    """What is wrong with a file of hash `seen`, None if nothing is."""
    known, whose = manifest.sha256(path), f"the manifest {manifest.name}"
    if known is None:
        known, whose = (
            _recorded(root / RECORD, path, seen),
            f"{root / RECORD}, written when it was first seen,",
        )
    return None if seen == known else f"sha256 is {seen}, {whose} says {known}"


def _recorded(record: Path, path: str, seen: str) -> str:
    """The hash recorded for a file; `seen`, which is recorded now, if there was none."""
    with explained(record):
        try:
            hashes = dict(read_json(record) or {})
        except (ValueError, TypeError) as error:
            raise DataError(f"{record}: is no record of hashes ({error}); remove it to start anew") from error
        if path not in hashes:
            write_json(record, {**hashes, path: seen})
    return hashes.get(path, seen)
