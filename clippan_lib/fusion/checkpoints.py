"""Published checkpoints of others, loaded into our networks: no weight left over, none missing."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from clippan_lib.fusion.lambda_pnn import LambdaPNN
from clippan_lib.fusion.pnn import PNN


class CheckpointError(ValueError):
    """A checkpoint that does not belong to what it is loaded into."""


class Published(NamedTuple):
    """How a public file fits ours: the network, and their names of its modules where they differ."""

    build: Callable[[int, int], nn.Module]
    renamed: dict[str, str]


_LAMBDA_PNN = {
    "conv1": "conv_1",
    "conv2": "conv_2",
    "conv3": "conv_3",
} | {
    ours.format(k): theirs.format(k)
    for k in (1, 2)
    for ours, theirs in (
        ("block{}.conv1", "res_block_{}.body.0"),
        ("block{}.conv2", "res_block_{}.body.2"),
        ("attention{}.channel.squeeze", "CBAM_{}.ChannelGate.mlp.1"),
        ("attention{}.channel.expand", "CBAM_{}.ChannelGate.mlp.3"),
        ("attention{}.spatial.conv", "CBAM_{}.SpatialGate.spatial.conv_1"),
    )
}

PUBLISHED = {
    "dlpan_pnn": Published(partial(PNN, hidden=(64, 32), residual=False), {}),
    "a_pnn": Published(PNN, {}),  # and Z-PNN's, whose network it is
    "lambda_pnn": Published(LambdaPNN, _LAMBDA_PNN),
}


def load_published(name: str, path: Path | str, bands: int, ratio: int = 4) -> nn.Module:
    """A network with the weights of a public checkpoint.

    Their images are scaled by 2047 (DLPan) or 2048 (GRIP-UNINA), a relative difference of 5e-4.

    Args:
        name: a key of `PUBLISHED`: whose checkpoint it is.
        path: `.safetensors`, or a file of `torch.save`, which is read without running code from it.
        bands: number of MS bands of the checkpoint.
        ratio: PAN-to-MS scale of the images to be fused; all public checkpoints were trained at 4.
    Raises: ValueError on an unknown name; CheckpointError naming what is left over, missing or misshapen.
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown published checkpoint {name!r}; known: {', '.join(PUBLISHED)}")
    build, renamed = PUBLISHED[name]
    network = build(bands, ratio)
    theirs = _read(Path(path))
    ours = {key: _their_name(key, renamed) for key in network.state_dict()}
    _check(theirs, {ours[key]: value for key, value in network.state_dict().items()}, path)
    network.load_state_dict({key: theirs[name_there] for key, name_there in ours.items()})
    return network


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights: save its state_dict alone ({error})"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} does not hold a plain table of weights: save its state_dict alone")
    return dict(state)


def _their_name(key: str, renamed: dict[str, str]) -> str:
    module, _, parameter = key.rpartition(".")
    return f"{renamed.get(module, module)}.{parameter}"


def _check(theirs: dict[str, Tensor], wanted: dict[str, Tensor], path: Path | str) -> None:
    left_over, missing = sorted(theirs.keys() - wanted.keys()), sorted(wanted.keys() - theirs.keys())
    if left_over or missing:
        raise CheckpointError(f"{path} does not fit the network: left over {left_over}, missing {missing}")
    for key, value in wanted.items():
        if theirs[key].shape != value.shape:
            raise CheckpointError(
                f"{path}: {key} has shape {tuple(theirs[key].shape)}, not {tuple(value.shape)}; "
                "is the number of bands right?"
            )
