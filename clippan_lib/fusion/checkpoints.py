"""Published checkpoints of others, loaded into our networks: no weight left over, none missing."""

import re
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from clippan_lib.errors import CheckpointError
from clippan_lib.fusion.published import PUBLISHED, Published
from clippan_lib.sensors import get_sensor


def load_published(name: str, path: Path | str, sensor: str, ratio: int = 4) -> nn.Module:
    """A network with the weights of a public checkpoint.

    Their images are scaled by 2047 (DLPan) or 2048 (GRIP-UNINA), a relative difference of 5e-4.

    Args:
        name: a key of `PUBLISHED`: whose checkpoint it is.
        path: `.safetensors`, or a file of `torch.save`, which is read without running code from it.
        sensor: that it was trained for, a name of `get_sensor`; decides the number of bands.
        ratio: PAN-to-MS scale of the images to be fused; all public checkpoints were trained at 4.
    Raises: ValueError on an unknown name or sensor; CheckpointError naming what is left over, missing or misshapen.
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown published checkpoint {name!r}; known: {', '.join(PUBLISHED)}")
    published = PUBLISHED[name]
    network = published.build(get_sensor(sensor).n_bands, ratio)
    theirs = _read(Path(path), published)
    ours = {key: _their_name(key, published) for key in network.state_dict()}
    _check(theirs, {ours[key]: value for key, value in network.state_dict().items()}, path)
    network.load_state_dict({key: theirs[name_there] for key, name_there in ours.items()})
    return network


def _read(path: Path, published: Published) -> dict[str, Tensor]:
    state = load_file(path) if path.suffix == ".safetensors" else _read_pickled(path, published.inside)
    wanted = {key.removeprefix(published.prefix): value for key, value in state.items()}
    if published.ignored:
        return {key: value for key, value in wanted.items() if not re.match(published.ignored, key)}
    return wanted


def _read_pickled(path: Path, inside: str) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights: save its state_dict alone ({error})"
        ) from None
    if isinstance(state, dict) and inside in state:
        state = state[inside]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} does not hold a plain table of weights: save its state_dict alone")
    return dict(state)


def _their_name(key: str, published: Published) -> str:
    for pattern, replacement in published.renamed.items():
        key = re.sub(pattern, replacement, key)
    return key


def _check(theirs: dict[str, Tensor], wanted: dict[str, Tensor], path: Path | str) -> None:
    left_over, missing = sorted(theirs.keys() - wanted.keys()), sorted(wanted.keys() - theirs.keys())
    if left_over or missing:
        raise CheckpointError(f"{path} does not fit the network: left over {left_over}, missing {missing}")
    for key, value in wanted.items():
        if theirs[key].shape != value.shape:
            raise CheckpointError(
                f"{path}: {key} has shape {tuple(theirs[key].shape)}, not {tuple(value.shape)}; "
                "is the sensor right?"
            )
