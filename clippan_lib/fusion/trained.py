"""A trained network as one file that needs nothing else: weights, and what its user has to know."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveFloat
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from clippan_lib.errors import CheckpointError
from clippan_lib.files import read_json
from clippan_lib.fusion import build_network
from clippan_lib.sensors import Sensor

_KEY = "clippan_network"


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    sensor: Sensor
    max_value: PositiveFloat
    origin: dict[str, str]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that can be used outside the run that trained it.

    Args:
        network: made by `build_network(name, sensor.n_bands, sensor.ratio)`, then trained.
        name: a key of `NETWORKS`.
        sensor: whose images it fuses: its bands in their order, and its ratio.
        max_value: what digital numbers were divided by in training, and have to be again.
        origin: where it comes from, for whoever asks; nothing depends on it.
    """

    network: nn.Module
    name: str
    sensor: Sensor
    max_value: float
    origin: Mapping[str, str]

    @property
    def ratio(self) -> int:
        """PAN-to-MS scale of the images."""
        return self.sensor.ratio

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, at once or not at all.

        Args:
            path: the file; its folder is made if need be.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        header = _Header(
            name=self.name, sensor=self.sensor, max_value=self.max_value, origin=dict(self.origin)
        )
        # Training leaves weights in the channels-last layout, which safetensors refuses
        weights = {key: value.detach().cpu().contiguous() for key, value in self.network.state_dict().items()}
        save_file(weights, part, {_KEY: header.model_dump_json()})
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path | str) -> "TrainedNetwork":
        """Read what `save` wrote; nothing in the file is run.

        Args:
            path: the file.
        Returns: the network on the CPU in eval mode, without gradients.
        Raises: CheckpointError if the file cannot be read, is of another kind, or does not fit a network of this
            version of the package.
        """
        metadata, weights = _read(Path(path))
        if _KEY not in metadata:
            raise CheckpointError(
                f"{path} holds no network that can be used alone (its metadata has the keys {sorted(metadata)}); "
                "give a file of a run's folder networks/, not one of stage1/ or stage2/"
            )
        try:
            header = _Header.model_validate_json(metadata[_KEY])
            network = build_network(header.name, header.sensor.n_bands, header.sensor.ratio)
            network.load_state_dict(weights)
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} fits no network of this version of the package; write it again with this version: {error}"
            ) from error
        return cls(
            network.requires_grad_(False).eval(),
            header.name,
            header.sensor,
            header.max_value,
            header.origin,
        )


def find_network(run: str | Path) -> Path:
    """The file of the trained network that is meant by a run.

    Args:
        run: a run's folder, or such a file, which is given back.
    Returns: the network trained at full resolution with language (a variant named "...-C"), of the first seed; if
        several networks were compared, the one that `run.json` names as the run's own.
    Raises: CheckpointError if there is no such path or no such network, or several.
    """
    path = Path(run)
    if path.is_file():
        return path
    kept = sorted((path / "networks").rglob("*.safetensors"))
    if not kept:
        raise CheckpointError(
            f"{path} is neither a file nor a run's folder with trained networks: give runs/DATASET/NAME, or a file "
            "of its folder networks/, which 04_stage2_training fills (also from checkpoints of an older version)"
        )
    guided: dict[str, dict[int, Path]] = {}
    for file in (path / "networks" / "full").glob("*.safetensors"):
        if named := re.fullmatch(r"(.+-C)-(\d+)", file.stem):
            guided.setdefault(named[1], {})[int(named[2])] = file
    own = (read_json(path / "run.json") or {}).get("config", {}).get("network")
    seeds = guided.get(f"{own}-C") or (next(iter(guided.values())) if len(guided) == 1 else None)
    if seeds is None:
        listed = "\n".join(str(file) for file in kept)
        raise CheckpointError(
            f"{path} has {len(guided)} networks trained at full resolution with language (-C), not one; "
            f"give a file:\n{listed}"
        )
    return seeds[min(seeds)]


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors ({error}); give a file of a run's folder networks/, "
            "or copy it again if it was cut short"
        ) from error
