"""The bad inputs of `make soak` that are networks: other weights, and facts about them that cannot be."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from soak_inputs import Case, sharpen

from clippan_lib.files import read_tensors


def of_networks() -> Iterator[Case]:
    """Weights and facts that are not those of a network."""

    def weights(change: Callable[[dict], dict]) -> Callable[[Path], list[str]]:
        def make(folder: Path) -> list[str]:
            file, (tensors, facts) = folder / "pnn.safetensors", _opened(folder / "pnn.safetensors")
            save_file(change(tensors), file, facts)
            return sharpen(folder, "--method", str(file))

        return make

    def facts(change: Callable[[dict], object]) -> Callable[[Path], list[str]]:
        def make(folder: Path) -> list[str]:
            file, (tensors, metadata) = folder / "pnn.safetensors", _opened(folder / "pnn.safetensors")
            header = json.loads(metadata["clippan_network"])
            metadata["clippan_network"] = json.dumps(change(header))
            save_file(tensors, file, metadata)
            return sharpen(folder, "--method", str(file))

        return make

    def first(change: Callable) -> Callable[[dict], dict]:
        return lambda tensors: {name: change(value) if number == 0 else value
                                for number, (name, value) in enumerate(tensors.items())}  # fmt: skip

    of_weights = {
        "NaN": first(lambda value: value * torch.nan),
        "infinite": first(lambda value: value / 0),
        "of float16": first(torch.Tensor.half),
        "of float64": first(torch.Tensor.double),
        "of int8": first(lambda value: value.to(torch.int8)),
        "complex": first(lambda value: value.to(torch.complex64)),
        "of another shape": first(lambda value: value[:1].clone()),
        "empty": first(lambda value: value[:0].clone()),
        "one missing": lambda tensors: dict([*tensors.items()][1:]),
        "one too many": lambda tensors: tensors | {"more": torch.zeros(1)},
        "none": lambda tensors: {"more": torch.zeros(1)},
        "doubled": first(lambda value: value * 2),
    }
    for what, change in of_weights.items():
        yield Case(f"networks: weights {what}", weights(change))
    of_facts: dict[str, object] = {
        "name": ["none", "../pnn", "", 7, None, "pnn\n"],
        "max_value": [0, -1.0, "2047", None, 1e400],
        "consistency": [-1, 1.5, "2"],
        "sensor": [None, "WV3", {}, {"name": "X"}],
        "origin": [None, {"seed": 1}, []],
        "more": [1],
    }
    for field, wrong in of_facts.items():
        for value in wrong:
            yield Case(
                f"networks: {field} {value!r}", facts(lambda header, f=field, v=value: header | {f: v})
            )
    yield Case("networks: facts are a list", facts(lambda header: [header]))
    yield Case("networks: facts are a number", facts(lambda header: 3))
    for what, content in {
        "a header of 2^60 bytes": struct.pack("<Q", 2**60) + b"{}",
        "no header": struct.pack("<Q", 0),
    }.items():

        def make(folder: Path, content=content) -> list[str]:
            (folder / "pnn.safetensors").write_bytes(content)
            return sharpen(folder, "--method", str(folder / "pnn.safetensors"))

        yield Case(f"networks: {what}", make)


def _opened(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All that is in a file, its digests too: who alters one value leaves them as they are."""
    with safe_open(path, "pt") as file:
        return read_tensors(path, "")[0], dict(file.metadata())
