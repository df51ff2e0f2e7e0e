"""Stage I: adapt CLIP's features to LRMS, PAN and HRMS images and to the prompts that name them."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.data import PatchSet
from clippan_lib.files import tensors_digest
from clippan_lib.fusion import get_method
from clippan_lib.losses.alignment import fusion_alignment, inter_modal, intra_modal
from clippan_lib.shapes import Progress
from clippan_lib.training.batches import PatchStore, TrainingSet
from clippan_lib.training.config import RunConfig
from clippan_lib.training.loop import History, fit, weigh


def fit_supervisor(
    supervisor: Supervisor,
    patches: PatchSet,
    config: RunConfig,
    *,
    seed: int,
    device: torch.device | str,
    checkpoint: Path | str | None = None,
    progress: Progress | None = None,
) -> History:
    """Train stems, adapters and fusion adapters of a supervisor; its towers stay as they are.

    Eq. 1, CLIPPan. HRMS comes from `config.hrms_source`, made once per patch.

    Args:
        supervisor: not frozen, its stretch fitted; changed in place and moved to `device`.
        patches: training patches, at least 2.
        config: its Stage I fields, schedule and clip_norm; with stage1_iterations=0 nothing is trained.
        seed: of the order of the patches.
        device: where to compute.
        checkpoint: see `fit`.
        progress: see `fit`; the label is "stage1".
    Returns: history of the terms inter, intra and fusion, before weighting, and of their weighted total.
    Raises: ValueError on a frozen supervisor, or "gt" as hrms_source where there is none; what `fit` raises.
    """
    if supervisor.frozen:
        raise ValueError("the supervisor is frozen: Stage I needs one that is not, so load or build it anew")
    if config.hrms_source == "gt" and not patches.has_gt:
        raise ValueError(
            "hrms_source is 'gt', but these patches have no ground truth; choose bdsd_pc or bdsd"
        )
    supervisor.to(device).train()
    if config.stage1_iterations == 0:
        return History()
    data = TrainingSet(
        PatchStore(patches, device),
        seed=seed,
        iterations=config.stage1_iterations,
        batch=config.stage1_batch,
    )
    data.once("hrms", _hrms_maker(patches, config))
    return fit(
        {"supervisor": supervisor},
        lambda iteration: _terms(supervisor, data.at(iteration), config),
        iterations=config.stage1_iterations,
        lr=config.stage1_lr,
        schedule=config.schedule,
        clip_norm=config.clip_norm,
        seed=seed,
        checkpoint=checkpoint,
        key=config.key("stage1", seed, data.key(), identity(supervisor)),
        every=config.checkpoint_every,
        label="stage1",
        progress=progress,
    )


def identity(supervisor: Supervisor) -> str:
    """What a supervisor is, for the key of a checkpoint: towers, texts, options and weights."""
    weights = tensors_digest(supervisor.state_dict())
    return f"{supervisor.towers.fingerprint} {supervisor.prompts.texts} {supervisor.options} {weights}"


def _hrms_maker(patches: PatchSet, config: RunConfig) -> Callable[[dict[str, Tensor]], Tensor]:
    if config.hrms_source == "gt":
        return lambda images: images["gt"]
    method = get_method(config.hrms_source, patches.sensor, patches.ratio)
    return lambda images: method(images["lrms"], images["pan"]).clamp(0, 1)


def _terms(supervisor: Supervisor, images: dict[str, Tensor], config: RunConfig) -> dict[str, Tensor]:
    lrms, pan = supervisor.embed_lrms(images["lrms"]), supervisor.embed_pan(images["pan"])
    hrms, texts = supervisor.embed_hrms(images["hrms"]), supervisor.embed_texts()
    features = torch.stack([lrms, pan, hrms])

    def fusion() -> Tensor:
        fused_text = supervisor.fuse_text(texts[:1], texts[1:2])
        return fusion_alignment(fused_text, texts[2:], supervisor.fuse_image(lrms, pan), hrms)

    return weigh(
        {
            "inter": (config.w_inter, lambda: inter_modal(features, texts, config.tau_inter)),
            "intra": (config.w_intra, lambda: intra_modal(features, config.tau_intra)),
            "fusion": (config.w_fusion, fusion),
        }
    )
