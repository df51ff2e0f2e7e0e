"""The pseudo-supervisor: a network trained at reduced resolution, one that is given, or a classical method."""

from pathlib import Path

import torch

from clippan_lib.data import PatchSet
from clippan_lib.errors import CheckpointError
from clippan_lib.fusion import STACK, Method, get_method, is_classical, network_for
from clippan_lib.fusion.registry import BANDWISE
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.shapes import Progress
from clippan_lib.training.batches import PatchStore
from clippan_lib.training.config import RunConfig
from clippan_lib.training.loop import History
from clippan_lib.training.stage2 import train_fusion


def train_pseudo(
    patches: PatchSet,
    config: RunConfig,
    *,
    seed: int,
    device: torch.device | str,
    checkpoint: Path | str | None = None,
    progress: Progress | None = None,
) -> tuple[Method, History]:
    """What Stage II imitates (L_ship of Eq. 12, CLIPPan): `config.pseudo`, trained at reduced resolution.

    Departs from the paper in: any registered network, classical method, stack or file of a trained network takes the
    place of SHIP. Patches are too small to weigh a stack by: there it is its band-wise member.

    Args:
        patches: training patches at reduced resolution, with ground truth.
        config: its pseudo fields, schedule, clip_norm and precision.
        seed: seed of the initial weights and the order of the patches.
        device: where to compute.
        checkpoint: see `fit`.
        progress: see `fit`; the label is "pseudo".
    Returns: the frozen network and its history; a file's network, a classical method, the stack and the
        band-wise network of the package come as they are, with an empty history.
    Raises: CheckpointError on a file that cannot be used, or whose network is for another sensor; ValueError on
        full-resolution patches; whatever `train_fusion` raises.
    """
    if given := config.trained_pseudo():
        _refuse_another_sensor(given, patches, config.pseudo)
        return given.network.to(device), History()
    if is_classical(config.pseudo) or config.pseudo in (BANDWISE, STACK):
        return get_method(config.pseudo, patches.sensor, patches.ratio), History()
    if patches.resolution != "reduced":
        raise ValueError(
            f"the pseudo-supervisor needs reduced-resolution patches, not {patches.resolution} ones"
        )
    as_stage2 = {
        "network": config.pseudo,
        "stage2_iterations": config.pseudo_iterations,
        "stage2_batch": config.pseudo_batch,
        "stage2_lr": config.pseudo_lr,
        "w_language": 0.0,
        "warm_start": False,
        "w_gt": 1.0,
    }
    network = network_for(config.pseudo, patches.sensor, seed, config.consistency)
    history = train_fusion(
        network,
        PatchStore(patches, device),
        config.model_copy(update=as_stage2),
        supervised=True,
        seed=seed,
        checkpoint=checkpoint,
        label="pseudo",
        progress=progress,
    )
    return network.requires_grad_(False).eval(), history


def _refuse_another_sensor(given: TrainedNetwork, patches: PatchSet, file: str) -> None:
    seen, wanted = (
        f"{sensor.name} (ratio {sensor.ratio}, bands {', '.join(sensor.bands)})"
        for sensor in (given.sensor, patches.sensor)
    )
    if seen != wanted:
        raise CheckpointError(
            f"{file} was trained for sensor {seen}, and these patches are of {wanted}; "
            "give a network of this sensor, or the name of one to train"
        )
