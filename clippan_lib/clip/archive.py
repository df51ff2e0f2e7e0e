"""Tensors of OpenAI's own files: programs (TorchScript) that hold a CLIP, of which nothing is run, and their states."""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

# What OpenAI's models keep beside their weights; open_clip's have it in their configuration
EXTRA = ("input_resolution", "context_length", "vocab_size")
_DTYPES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Float": torch.float32,
        "Double": torch.float64,
        "Byte": torch.uint8,
        "Char": torch.int8,
        "Short": torch.int16,
        "Int": torch.int32,
        "Long": torch.int64,
        "Bool": torch.bool,
    }.items()
}


class _Part:
    """A module of the program: its attributes, without its code."""


class _Reader(pickle.Unpickler):
    """Builds tensors and the modules that hold them; whatever else a pickle asks for is refused."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(archive.open(f"{folder}data.pkl"))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Part
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" and name.startswith("build_") and name.endswith("list"):
            return list
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of a model")

    def persistent_load(self, found: tuple[str, torch.dtype, str, str, int]) -> Tensor:
        _, dtype, name, _, count = found
        content = bytearray(self._archive.read(f"{self._folder}data/{name}"))
        return torch.frombuffer(content, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    return storage.as_strided(size, stride, offset).clone()


def program_of(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a TorchScript archive by their names, as its `state_dict` would have them; None of another file.

    Raises: pickle.UnpicklingError if it holds more than modules and tensors.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        constants = [name for name in names if name.count("/") == 1 and name.endswith("/constants.pkl")]
        if not constants:
            return None
        whole = _Reader(archive, constants[0].removesuffix("constants.pkl")).load()
    return dict(_tensors_in(whole, ""))


def _tensors_in(part: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(part).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Part):
            yield from _tensors_in(value, f"{prefix}{name}.")


@contextmanager
def loadable(weights: str | None) -> Iterator[str | None]:
    """A name that open_clip loads: that of a safetensors file made of OpenAI's, else the one that is given."""
    tensors = _of_openai(Path(weights)) if weights and Path(weights).is_file() else None
    if tensors is None:
        yield weights
        return
    with TemporaryDirectory(prefix="clippan.") as folder:
        file = Path(folder) / "open_clip_model.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
        yield str(file)


def _of_openai(path: Path) -> Mapping[str, Tensor] | None:
    """Without what open_clip's models do not keep; None of a file that open_clip loads as it is."""
    if path.suffix not in (".pt", ".pth", ".bin"):
        return None
    tensors = program_of(path)
    if tensors is None:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        tensors = tensors.get("state_dict", tensors) if isinstance(tensors, dict) else {}
        if not any(name in tensors for name in EXTRA):
            return None
    return {
        name: tensor for name, tensor in tensors.items() if name not in EXTRA and isinstance(tensor, Tensor)
    }
