"""Stage I: adapt CLIP's features to LRMS, PAN and HRMS images and to the prompts that name them."""

from collections.abc import Callable
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from clippan_lib.clip.model import load_clip
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.data import PatchSet
from clippan_lib.files import tensors_digest
from clippan_lib.fusion import get_method
from clippan_lib.losses.alignment import fusion_alignment, inter_modal, intra_modal
from clippan_lib.losses.ascent import errors_of, order, pointing
from clippan_lib.losses.guidance import guide
from clippan_lib.shapes import Progress
from clippan_lib.training.batches import PatchStore, TrainingSet
from clippan_lib.training.config import RunConfig
from clippan_lib.training.deliveries import Delivery, cut, deviation_of, make, toned
from clippan_lib.training.loop import History, fit, weigh

FIRST_SEED = 4_800_000  # of drawn scenes
CUT = 12  # LRMS px, the side of what an iteration sees of one
POINTED, RANKED = 3, 3  # images whose gradient is judged, and images that are ordered besides


def new_supervisor(
    config: RunConfig, patches: PatchSet, seed: int, clip_weights: str | None = None, adapted: bool = True
) -> Supervisor:
    """A supervisor before Stage I, its display stretch fitted on training patches; torch's random state stays.

    Args:
        config: its Stage I fields.
        patches: for training.
        seed: seed of new weights.
        clip_weights: replaces the configured weights, such as "random:0" for the control.
        adapted: False leaves all adapters out (CA with residual 0): CLIP as it is.
    Raises: as `load_clip` and `Supervisor`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        supervisor = Supervisor(
            load_clip(config.clip_model, clip_weights or config.clip_weights),
            patches.sensor,
            config.prompts,
            stem=config.stem,
            adapters=config.adapters if adapted else "shared",
            reduction=config.reduction,
            image_residual=config.image_residual if adapted else 0.0,
            text_residual=config.text_residual if adapted else 0.0,
        )
    some = patches.batch(torch.linspace(0, len(patches) - 1, min(len(patches), 256)).long().unique())
    supervisor.fit_stretch(some.lrms, some.pan)
    return supervisor


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

    Eq. 1, CLIPPan. HRMS comes from `config.hrms_source`, made once per patch. Two terms of ours (`losses.ascent`),
    without which the language term is no judge of fusions, see scenes that are drawn, with their truth.

    Args:
        supervisor: not frozen, its stretch fitted; changed in place and moved to `device`.
        patches: training patches, at least 2.
        config: its Stage I fields, schedule and clip_norm; with stage1_iterations=0 nothing is trained.
        seed: seed of the order of the patches.
        device: where to compute.
        checkpoint: see `fit`.
        progress: see `fit`; the label is "stage1".
    Returns: history of the terms inter, intra, fusion, pointing and order, before weighting, and of their weighted
        total; a term of weight 0 is left out.
    Raises: ValueError on a frozen supervisor, "gt" as hrms_source where there is none, or bands that cannot be drawn
        (`deliveries.make`); what `fit` raises.
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
    lessons = _Lessons(supervisor, config, seed) if config.w_pointing or config.w_order else None
    return fit(
        {"supervisor": supervisor},
        lambda iteration: _terms(
            supervisor, data.at(iteration), config, cache(partial(lessons, iteration)) if lessons else None
        ),
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


class _Lessons:
    """Drawn scenes by which the supervisor learns what better means: called with an iteration.

    Args:
        supervisor: its stretch fitted.
        config: see `RunConfig`.
        seed: seed of all draws.
    Raises: ValueError as `deliveries.make` does.
    """

    def __init__(self, supervisor: Supervisor, config: RunConfig, seed: int) -> None:
        self.supervisor, self.config, self.seed = supervisor, config, seed

    @cached_property
    def deliveries(self) -> list[Delivery]:
        """Drawn when the first is asked for: a finished training asks for none."""
        tones = self.supervisor.stretch("lrms"), self.supervisor.stretch("pan")
        seeds = (FIRST_SEED + 1000 * self.seed + number for number in range(self.config.drawn))
        return [toned(make(seed, sensor=self.supervisor.sensor), *tones) for seed in seeds]

    def __call__(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Returns: 1 - the mean cosine of the gradient with what images lack, and the loss of their order."""
        rng = np.random.default_rng([self.seed, iteration])
        chosen = rng.choice(len(self.deliveries), min(self.config.drawn_batch, len(self.deliveries)), False)
        # the faster kernels of attention have no second derivative
        with sdpa_kernel(SDPBackend.MATH):
            found = [self._of(self.deliveries[number], rng) for number in chosen]
        cosines, orders = (torch.stack(each) for each in zip(*found, strict=True))
        return 1 - cosines.mean(), orders.mean()

    def _of(self, delivery: Delivery, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        part, deviation = cut(delivery, POINTED + RANKED, CUT, rng), deviation_of(delivery.lrms)
        device = self.supervisor.raw_texts.device
        coarse, pan, gt, fused, deviation = (
            image.to(device) for image in (part.coarse, part.pan, part.gt, part.fused, deviation)
        )
        loss = guide(self.supervisor, coarse, pan, self.config.guidance == "dense")
        first = fused[:POINTED]
        cosines, losses = pointing(loss, first, gt.expand_as(first), deviation)
        others = torch.cat([fused[POINTED:], gt])
        errors = errors_of(torch.cat([first, others]), gt, deviation)
        return cosines.mean(), order(torch.cat([losses, loss(others)]), errors)[0]


def _terms(
    supervisor: Supervisor,
    images: dict[str, Tensor],
    config: RunConfig,
    lesson: Callable[[], tuple[Tensor, Tensor]] | None = None,
) -> dict[str, Tensor]:
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
        | (_of_lesson(lesson, config) if lesson else {})
    )


def _of_lesson(
    lesson: Callable[[], tuple[Tensor, Tensor]], config: RunConfig
) -> dict[str, tuple[float, Callable[[], Tensor]]]:
    return {
        "pointing": (config.w_pointing, lambda: lesson()[0]),
        "order": (config.w_order, lambda: lesson()[1]),
    }
