"""The pseudo-supervisor: a network trained with ground truth at reduced resolution, or a classical method."""

from pathlib import Path

import torch

from clippan_lib.data import PatchSet
from clippan_lib.fusion import CLASSICAL, Method, build_network, get_method
from clippan_lib.progress import Progress
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

    Departs from the paper in: any registered network or classical method takes the place of SHIP.

    Args:
        patches: training patches at reduced resolution, with ground truth.
        config: its pseudo fields, schedule and clip_norm.
        seed: of the initial weights and the order of the patches.
        device: where to compute.
        checkpoint: see `fit`.
        progress: see `fit`; the label is "pseudo".
    Returns: the frozen network and its history; a classical method comes untrained, with an empty history.
    Raises: ValueError on full-resolution patches; whatever `train_fusion` raises.
    """
    if config.pseudo in CLASSICAL:
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
    network = build_network(config.pseudo, patches.sensor.n_bands, patches.ratio, seed)
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
