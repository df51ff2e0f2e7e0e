"""Files that are either whole or not there, what tells one from another, and folders that belong to one process."""

import hashlib
import json
import logging
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor

from clippan_lib.errors import CheckpointError, OutputError

LOCK = ".lock"
PACKAGE = Path(__file__).resolve().parent
_LONGEST = "compared.json.1234567.tmp"  # what names of temporary files add to that of an output, at most
_LOG = logging.getLogger(__name__)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside a file, which becomes the file at the end, and is gone if that is not reached."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, a crash, or the loss of power, never sees half of it."""
    with _replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: Any) -> None:
    """Write JSON as `write_text` does.

    Raises: ValueError on NaN or infinity, which JSON lacks.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file, None if the file is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def keep(path: Path, content: Any) -> None:
    """Write JSON that work goes on from later: as `write_json` does, with a checksum that `kept` looks at.

    Args:
        path: the file; its folder must exist.
        content: what JSON can say; tuples come back as lists.
    Raises: ValueError on NaN or infinity.
    """
    write_json(path, {"sha256": _json_digest(content), "content": content})


def kept(path: Path) -> Any:
    """What `keep` wrote; None if the file is not there, or is not as it was written, which is logged by name.

    Returns: the content. Whoever gets None makes it anew, and `keep` then replaces the file.
    """
    try:
        found = json.loads(path.read_bytes())
        if found["sha256"] == _json_digest(found["content"]):
            return found["content"]
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    _LOG.warning("%s: is empty, cut short or altered; it is thrown away, and made again", path)
    return None


def _json_digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, allow_nan=False).encode()).hexdigest()


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, so that a reader, or the loss of power, never sees half of it.

    Args:
        path: the file; its folder is made if need be.
        tensors: by name; on any device, in any layout, and they may be parts of one another.
        metadata: what the file's header says besides.
    Raises: CheckpointError if it cannot be written; what was there before stays.
    """
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    # Not safetensors' own writing, which leaves the file to its owner alone, whatever the umask says
    content = safetensors.torch.save(own, dict(metadata or {}))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(path) as temporary, temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}); make room on its disk, or choose a folder that can be written"
        ) from error


def read_tensors(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and its metadata; nothing in the file is run.

    Args:
        path: the file.
        remedy: what its user does if it cannot be read.
    Returns: tensors on the CPU in memory of their own, so that the file may be replaced; the metadata.
    Raises: CheckpointError if the file is missing, cut short or of another format.
    """
    with _opened(path, remedy) as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def read_metadata(path: Path, remedy: str) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors; arguments and refusals as of `read_tensors`."""
    with _opened(path, remedy) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: Path, remedy: str) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors ({error}); {remedy}") from error


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors, bit by bit; their order, device and layout do not count."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content.

    Raises: OSError if it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def library_digest() -> str:
    """SHA-256 of the library's own code, and of the weights and the page that it ships, as first asked for."""
    total = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in {".py", ".json", ".safetensors", ".html"}:
            total.update(f"{path.relative_to(PACKAGE).as_posix()} {file_digest(path)};".encode())
    return total.hexdigest()


@contextmanager
def held(folder: Path, refusal: Exception) -> Iterator[None]:
    """Keep other processes out of a folder, by a file in it; the system lets go for a process that died.

    Args:
        folder: exists.
        refusal: raised if another process holds the folder.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise refusal from None
    except OSError:
        pass  # network file systems that have no locks
    try:
        yield
    finally:
        lock.release()


def refuse_unwritable(path: Path, made: bool = False) -> None:
    """Refuse an output that cannot become a file, before the work for it begins; nothing is left.

    Args:
        path: of the output, which may be there.
        made: whether folders that are missing will be made.
    Raises: OutputError naming what is there, or why the folder takes no file.
    """
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: is {_kind(path)}, and no file; give the output another name")
        target = Path(os.path.realpath(path))
        target.with_name(f"..{target.name}.{_LONGEST}").exists()  # an error if it is longer than can be
        folder = target.parent
        while made and not folder.exists():
            folder = folder.parent
        if not folder.exists():
            raise OutputError(f"{folder}: no such folder; make it, or name an output in another")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); name a file in a folder that can be written"
        ) from error


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def refuse_replacing(written: Iterable[Path], read: Iterable[Path]) -> None:
    """Refuse to write, or to remove, what is read: the same file under whatever name, through whatever link.

    Args:
        written: names of what will be written or removed.
        read: of what is read.
    Raises: OutputError naming both, or a folder that has the name of such a file.
    """
    known = {identity: path for path in read if (identity := _identity(path))}
    for path in written:
        if path.is_dir():
            raise OutputError(
                f"{path}: is a folder, where a file goes; move it away, or give the output another name"
            )
        if (identity := _identity(path)) and (same := known.get(identity)):
            also = f", by another name {same}" if os.path.abspath(same) != os.path.abspath(path) else ""
            raise OutputError(
                f"{path}: is one of the files that are read{also}; give the output another name, so that it replaces "
                "none of them"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def file_state(path: str | Path) -> list[int] | None:
    """Size in bytes and time of the last change in nanoseconds: what tells that a file is still the same.

    Returns: None for what is not there, or is no file of the system's.
    """
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
