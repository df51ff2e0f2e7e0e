"""Stage II: train a fusion network, without ground truth or with it, guided by language or not."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.data import PatchSet
from clippan_lib.data.stacks import sharpness_of_truth
from clippan_lib.files import tensors_digest
from clippan_lib.fusion import Method
from clippan_lib.fusion.consistency import Consistent
from clippan_lib.losses.fidelity import fit_pan_response, qnr_loss, spatial, spectral
from clippan_lib.losses.fidelity import pseudo as pseudo_loss
from clippan_lib.losses.guidance import direction, guide
from clippan_lib.metrics.no_reference import pan_lowpass
from clippan_lib.mtf import degrade, sharpened, upsample
from clippan_lib.shapes import Progress
from clippan_lib.training.batches import PatchStore, TrainingSet
from clippan_lib.training.config import RunConfig
from clippan_lib.training.loop import History, fit, refuse_non_finite, weigh
from clippan_lib.training.stage1 import identity

# Name to weight, and to a function of the network's output and of what is known of the batch
Losses = dict[str, tuple[float, Callable[[Tensor, dict[str, Tensor]], Tensor]]]


def train_fusion(
    network: nn.Module,
    store: PatchStore,
    config: RunConfig,
    *,
    supervised: bool,
    supervisor: Supervisor | None = None,
    pseudo: Method | None = None,
    seed: int,
    checkpoint: Path | str | None = None,
    features: Path | None = None,
    label: str = "stage2",
    progress: Progress | None = None,
) -> History:
    """Train one fusion network; nothing else moves.

    Unsupervised: Eqs. 6-12, CLIPPan. Supervised: L1 to the ground truth, the setting of Table 1 at reduced
    resolution. Both with the language term if there is a supervisor and w_language is not 0. A step is one
    pass through the network and one through the image tower: all else is computed once per patch, before.

    Args:
        network: changed in place, moved to the store's device in the channels-last layout (a third faster on a
            CPU); with config.warm_start it first takes pseudo's weights.
        store: training patches, with ground truth if `supervised`; runs that share it compute nothing twice.
        config: its Stage II fields, schedule, clip_norm and precision.
        supervised: which of the two settings.
        supervisor: adapted in Stage I; is frozen here. None is the control without language.
        pseudo: method that is imitated; needed with warm_start, and with w_pseudo unless `supervised`.
        seed: seed of the order of the patches.
        checkpoint: see `fit`.
        features: folder that keeps the embeddings of LRMS and PAN for other runs with this supervisor.
        label: see `fit`.
        progress: see `fit`.
    Returns: history of the terms before weighting (spectral, spatial, qnr, pseudo; or gt; and language) and
        of their weighted total.
    Raises: ValueError if ground truth or pseudo is missing, or every weight is 0; what `fit` raises.
    """
    if config.warm_start:
        _take_weights(network, pseudo)
    network.to(store.device).to(memory_format=torch.channels_last).train()
    data = TrainingSet(store, seed=seed, iterations=config.stage2_iterations, batch=config.stage2_batch)
    fidelity = (
        _supervised(store.patches, config)
        if supervised
        else _unsupervised(network, store, data, pseudo, config)
    )
    losses = fidelity | _language(supervisor, data, config, store.device, features)

    def terms(iteration: int) -> dict[str, Tensor]:
        known = data.at(iteration)
        with torch.autocast(torch.device(store.device).type, torch.bfloat16, config.precision == "bfloat16"):
            hrms = network(known["lrms"], known["pan"])
        # losses and CLIP compare images that are nearly equal
        hrms = hrms.float()
        refuse_non_finite({"the network's output": hrms.detach().sum().item()}, iteration)
        return weigh(losses, hrms, known)

    start = [data.key(), tensors_digest(network.state_dict()), _identity(pseudo, config)]
    if supervisor is not None and "language" in losses:
        start.append(identity(supervisor))
    return fit(
        {"network": network},
        terms,
        iterations=config.stage2_iterations,
        lr=config.stage2_lr,
        schedule=config.schedule,
        clip_norm=config.clip_norm,
        seed=seed,
        checkpoint=checkpoint,
        key=config.key("supervised" if supervised else "unsupervised", seed, *start),
        every=config.checkpoint_every,
        label=label,
        progress=progress,
    )


def _supervised(patches: PatchSet, config: RunConfig) -> Losses:
    if not patches.has_gt:
        raise ValueError("supervised training needs ground truth: use patches at reduced resolution")
    return {"gt": (config.w_gt, lambda hrms, known: F.l1_loss(hrms, known["gt"]))}


def _unsupervised(
    network: nn.Module, store: PatchStore, data: TrainingSet, pseudo: Method | None, config: RunConfig
) -> Losses:
    ratio, sensor = store.patches.ratio, store.patches.sensor
    if config.w_qnr > 0:
        data.once("lms", lambda images: upsample(images["lrms"], ratio))
        data.once("pan_lp", lambda images: pan_lowpass(images["pan"], ratio))
    if config.w_pseudo > 0:
        layer = network if isinstance(network, Consistent) else None
        of = f"{_identity(pseudo, config)} {layer and (layer.steps, layer.sharpness)}"
        data.once("target", _imitated(pseudo, layer, config, store.device), of=of)
    # PAN as the MS optics would have seen it, on the phase of lrms
    gain = sum(sensor.gnyq) / len(sensor.gnyq)
    pan_lr = degrade(data.images["pan"], (gain,), ratio)
    response = fit_pan_response(data.images["lrms"], pan_lr).to(store.device)
    gnyq = sensor.gnyq if config.spec_degradation == "mtf" else None
    like, sharpness = "pan", pan_sharpness(store.patches, config)
    if sharpness != 1:
        like = "pan_as_truth"
        data.once(like, lambda images: sharpened(images["pan"], sharpness), of=str(sharpness))
    return {
        "spectral": (config.w_spec, lambda hrms, known: spectral(hrms, known["lrms"], ratio, gnyq)),
        "spatial": (config.w_spat, lambda hrms, known: spatial(hrms, known[like], response)),
        "qnr": (
            config.w_qnr,
            lambda hrms, known: qnr_loss(hrms, known["lms"], known["pan"], known["pan_lp"]),
        ),
        "pseudo": (config.w_pseudo, lambda hrms, known: pseudo_loss(hrms, known["target"])),
    }


def pan_sharpness(patches: PatchSet, config: RunConfig) -> float:
    """What training without truth filters PAN to, see `mtf.sharpened`: as sharp as the truth that will judge, if any.

    Args:
        patches: patches of full resolution; their sensor's gains count, and whether their kind of scene has a truth.
        config: its spat_pan, scale and truth.
    Returns: 1 where PAN is taken as it is: with spat_pan="pan", and where no truth exists.
    """
    if config.spat_pan == "truth" and config.scale == "reduced":
        return sharpness_of_truth(patches.sensor, config.truth == "sharp")
    if config.spat_pan == "truth" and patches.has_gt:
        return sharpness_of_truth(patches.sensor, False, patches.sensor.gnyq_pan)
    return 1.0


def _imitated(
    pseudo: Method | None, layer: Consistent | None, config: RunConfig, device: torch.device | str
) -> Callable[[dict[str, Tensor]], Tensor]:
    if pseudo is None:
        raise ValueError(
            f"w_pseudo is {config.w_pseudo}, but there is no pseudo-supervisor: give one, or set w_pseudo=0"
        )
    if isinstance(pseudo, nn.Module):
        pseudo.to(device).eval()

    def target(images: dict[str, Tensor]) -> Tensor:
        lrms, pan = images["lrms"], images["pan"]
        hrms = pseudo(lrms, pan)
        # through the network's own last layer: what that decides is not to be imitated
        return layer.behind(hrms, lrms, pan) if layer else hrms

    return target


def _take_weights(network: nn.Module, pseudo: Method | None) -> None:
    if not isinstance(pseudo, nn.Module):
        raise ValueError("warm_start needs a network as pseudo-supervisor: give one, or set warm_start=False")
    # with steps of consistency behind it or without: these have no weights
    inner = [each.network if isinstance(each, Consistent) else each for each in (network, pseudo)]
    inner[0].load_state_dict(inner[1].state_dict())


def _language(
    supervisor: Supervisor | None,
    data: TrainingSet,
    config: RunConfig,
    device: torch.device | str,
    features: Path | None,
) -> Losses:
    if supervisor is None or config.w_language == 0:
        return {}
    supervisor.to(device).freeze()
    if config.guidance == "dense":
        # features of all places of all patches would take more memory than the time they save is worth
        return {
            "language": (
                config.w_language,
                lambda hrms, known: guide(supervisor, known["lrms"], known["pan"], dense=True)(hrms).mean(),
            )
        }
    texts = supervisor.embed_texts()
    of = identity(supervisor)
    data.once("lrms_features", lambda images: supervisor.embed_lrms(images["lrms"]), of, features)
    data.once("pan_features", lambda images: supervisor.embed_pan(images["pan"]), of, features)

    def language(hrms: Tensor, known: dict[str, Tensor]) -> Tensor:
        return direction(supervisor.embed_hrms(hrms), known["lrms_features"], known["pan_features"], texts)

    return {"language": (config.w_language, language)}


def _identity(pseudo: Method | None, config: RunConfig) -> str:
    """What a pseudo-supervisor is, for keys: a network's weights, a classical method's name."""
    return (
        tensors_digest(pseudo.state_dict())
        if isinstance(pseudo, nn.Module)
        else f"{config.pseudo} {pseudo is None}"
    )
