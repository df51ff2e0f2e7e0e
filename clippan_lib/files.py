"""Files that are either whole or not there, what tells one from another, and folders that belong to one process."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from clippan_lib.errors import CheckpointError, Refusal

LOCK = ".lock"
PACKAGE = Path(__file__).resolve().parent
_LOG = logging.getLogger(__name__)
# Keys of a tensor file's metadata: digests of its tensors, and of all else that it says
_TENSORS, _SAID = "sha256_tensors", "sha256_metadata"


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
    write_json(path, {"sha256": json_digest(content), "content": content})


def kept(path: Path) -> Any:
    """What `keep` wrote; None if the file is not there, or is not as it was written, which is logged by name.

    Returns: the content. Whoever gets None makes it anew, and `keep` then replaces the file.
    """
    try:
        found = json.loads(path.read_bytes())
        if found["sha256"] == json_digest(found["content"]):
            return found["content"]
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    _LOG.warning("%s: is empty, cut short or altered; it is thrown away, and made again", path)
    return None


def json_digest(content: Any) -> str:
    """SHA-256 of what JSON can say."""
    return hashlib.sha256(json.dumps(content, allow_nan=False).encode()).hexdigest()


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, so that a reader, or the loss of power, never sees half of it.

    Digests of its tensors and of its metadata go into its header, so that `read_tensors` sees any later change. The
    same tensors and metadata give the same bytes.

    Args:
        path: the file; its folder is made if need be.
        tensors: tensors by name; on any device, in any layout, and they may be parts of one another.
        metadata: what the file's header says besides.
    Raises: CheckpointError if it cannot be written; what was there before stays.
    """
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    # Not safetensors' own writing, which leaves the file to its owner alone, whatever the umask says
    content = safetensors.torch.save(own, _signed(dict(metadata or {}), tensors_digest(own)))
    header, values = _ordered(content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(path) as temporary, temporary.open("wb") as file:
            file.write(header)
            file.write(values)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}); make room on its disk, or choose a folder that can be written"
        ) from error


def _ordered(content: bytes) -> tuple[bytes, memoryview]:
    """A safetensors file's header with its metadata in order, and the rest: safetensors writes them in any order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    # The format wants the values aligned to eight bytes
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, memoryview(content)[end:]


def read_tensors(path: Path, remedy: str, finite: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and its metadata; nothing in the file is run.

    Args:
        path: the file.
        remedy: what its user does if it cannot be read.
        finite: whether NaN and infinity are refused, by the name of the tensor.
    Returns: tensors on the CPU in memory of their own, so that the file may be replaced; the metadata.
    Raises: CheckpointError if the file is missing, cut short, of another format, or not as `write_tensors` left it. A
        file without digests, of an older version or of others, is taken as it is.
    """
    with _opened(path, remedy) as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    if finite:
        refuse_non_finite(tensors, path, remedy)
    return tensors, _unsigned(metadata, path, remedy, tensors)


def read_metadata(path: Path, remedy: str) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors; arguments and refusals as of `read_tensors`."""
    with _opened(path, remedy) as file:
        metadata = file.metadata() or {}
    return _unsigned(metadata, path, remedy)


@contextmanager
def _opened(path: Path, remedy: str) -> Iterator[Any]:
    try:
        if path.exists() and not path.is_file():
            raise OSError("no regular file")
        with safe_open(path, "pt") as file:
            yield file
    # a kind of number that torch lacks is a KeyError or an AttributeError, more than the memory holds a RuntimeError
    except (SafetensorError, OSError, RuntimeError, ValueError, LookupError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors ({error}); {remedy}") from error


def _signed(metadata: dict[str, str], of_tensors: str) -> dict[str, str]:
    said = hashlib.sha256(json.dumps([metadata, of_tensors], sort_keys=True).encode()).hexdigest()
    return metadata | {_TENSORS: of_tensors, _SAID: said}


def _unsigned(
    metadata: dict[str, str], path: Path, remedy: str, tensors: Mapping[str, Tensor] | None = None
) -> dict[str, str]:
    """The metadata without the digests, after a look at these; without the tensors, at that of the metadata alone."""
    said = {name: text for name, text in metadata.items() if name not in (_TENSORS, _SAID)}
    if said == metadata:
        return said
    there = metadata.get(_TENSORS, "")
    found = there if tensors is None else tensors_digest(tensors)
    for what, digest in {"header does": there, "tensors do": found}.items():
        if metadata != _signed(said, digest):
            raise CheckpointError(
                f"{path} is damaged, or was changed after it was written: its {what} not have the "
                f"SHA-256 that is written there; {remedy}"
            )
    return said


def refuse_non_finite(tensors: Mapping[str, Tensor], path: Path | str, remedy: str) -> None:
    """Refuse weights that are no numbers.

    Raises: CheckpointError naming the file, a tensor, a value and how many there are.
    """
    for name, tensor in tensors.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        bad = tensor[~tensor.isfinite()]
        if bad.numel():
            raise CheckpointError(
                f"{path}: {name} has {bad.numel()} of {tensor.numel()} values that are not finite "
                f"({bad[0].item()}); {remedy}"
            )


def misfit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """How tensors differ from those wanted in names, shapes or kinds of number, in words; "" if they fit."""
    left_over, missing = sorted(tensors.keys() - wanted.keys()), sorted(wanted.keys() - tensors.keys())
    if left_over or missing:
        return f"left over {left_over}, missing {missing}"
    for name, value in wanted.items():
        if tensors[name].shape != value.shape:
            return f"{name} has shape {tuple(tensors[name].shape)}, not {tuple(value.shape)}"
        if tensors[name].dtype != value.dtype:
            return f"{name} is {tensors[name].dtype}, not {value.dtype}"
    return ""


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors into a module. torch's own way would turn other kinds of number into the module's.

    Raises: ValueError naming what is left over, missing or of another shape or kind; the module is as before then.
    """
    if found := misfit(tensors, module.state_dict()):
        raise ValueError(found)
    module.load_state_dict(tensors)


def throw_away(path: Path, why: object) -> None:
    """Remove a file of ours that cannot be used, and log why; whoever needs it makes it again.

    Raises: Refusal if it is a folder, or cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise Refusal(f"{why}, but it cannot be removed ({error.strerror}): move it away") from error
    _LOG.warning("%s", why)


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


def file_state(path: str | Path) -> list[int] | None:
    """Size in bytes and time of the last change in nanoseconds: what tells that a file is still the same.

    Returns: None for what is not there, or is no file of the system's.
    """
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
