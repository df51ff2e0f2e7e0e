"""A trained network as one file that needs nothing else: weights, and what its user has to know."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError
from torch import nn

from clippan_lib.errors import CheckpointError, on_one_line
from clippan_lib.files import load_exactly, read_metadata, read_tensors, write_tensors
from clippan_lib.fusion.consistency import Consistent
from clippan_lib.fusion.registry import network_for
from clippan_lib.sensors import Sensor

_KEY = "clippan_network"
_MOST_STEPS = 1000
_REMEDY = "give a file of a run's folder networks/, or copy it again if it was cut short"


class NetworkHeader(BaseModel):
    """What the file of a trained network says besides its weights; the fields are those of `TrainedNetwork`."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    name: str
    sensor: Sensor
    max_value: PositiveFloat
    consistency: Annotated[int, Field(ge=0, le=_MOST_STEPS)] = 0
    sharpness: PositiveFloat | None = None
    origin: dict[str, str]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that can be used outside the run that trained it.

    Args:
        network: made by `network_for(name, sensor, seed, consistency, sharpness)`, then trained.
        name: a key of `NETWORKS`.
        sensor: whose images it fuses: its bands in their order, its ratio, and the gains it was trained with, which
            may have been measured.
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

    @property
    def consistency(self) -> int:
        """Steps of `fusion.consistency` that are its last layer."""
        return self.network.steps if isinstance(self.network, Consistent) else 0

    @property
    def sharpness(self) -> float | None:
        """Of PAN in that layer; None where it holds to LRMS alone, or is not there."""
        return self.network.sharpness if isinstance(self.network, Consistent) else None

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, at once or not at all, with digests of its weights and of what it says.

        Args:
            path: the file; its folder is made if need be.
        Raises: CheckpointError if it cannot be written; ValueError on a max_value that is not above 0.
        """
        header = NetworkHeader(
            name=self.name,
            sensor=self.sensor,
            max_value=self.max_value,
            consistency=self.consistency,
            sharpness=self.sharpness,
            origin=dict(self.origin),
        )
        write_tensors(Path(path), self.network.state_dict(), {_KEY: header.model_dump_json()})

    @classmethod
    def load(cls, path: Path | str) -> "TrainedNetwork":
        """Read what `save` wrote; nothing in the file is run.

        Args:
            path: the file.
        Returns: the network on the CPU in eval mode, without gradients.
        Raises: CheckpointError if the file cannot be read, was changed since it was written, is of another kind, has
            weights that are not finite, or does not fit a network of this version of the package.
        """
        weights, metadata = read_tensors(Path(path), _REMEDY, finite=True)
        header = _header(path, metadata)
        try:
            network = network_for(
                header.name, header.sensor, consistency=header.consistency, sharpness=header.sharpness
            )
            load_exactly(network, weights)
        except (ValueError, RuntimeError) as error:  # torch: a network that the memory does not hold
            raise _unfit(path, error) from error
        return cls(
            network.requires_grad_(False).eval(),
            header.name,
            header.sensor,
            header.max_value,
            header.origin,
        )

    @staticmethod
    def header(path: Path | str) -> NetworkHeader:
        """What a file says besides its weights, which are not read.

        Args:
            path: as for `load`.
        Raises: CheckpointError if the file cannot be read or is of another kind.
        """
        return _header(path, read_metadata(Path(path), _REMEDY))


def _header(path: Path | str, metadata: Mapping[str, str]) -> NetworkHeader:
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path} holds no network that can be used alone (its metadata has the keys {sorted(metadata)}); "
            "give a file of a run's folder networks/, not one of stage1/ or stage2/"
        )
    try:
        return NetworkHeader.model_validate_json(metadata[_KEY])
    except ValidationError as error:
        raise _unfit(path, on_one_line(error)) from error


def _unfit(path: Path | str, error: object) -> CheckpointError:
    return CheckpointError(
        f"{path} fits no network of this version of the package; write it again with this version: {error}"
    )
