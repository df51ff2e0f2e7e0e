"""The protocol laboratory: which descriptions of the aim tell a true fusion from a spoiled one, and how surely.

The paper's "reciprocal framework": the CLIP that judges images by a text can judge texts by images. A candidate is
a pair of steps in CLIP's space, from the LRMS and from the PAN text to the aim (Eqs. 7-8, CLIPPan); it is good if
the images' own steps agree with it better when the fusion is true than when the same fusion is spoiled.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from clippan_lib.clip.prompts import PromptSet, get_prompts
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.data import PatchSet
from clippan_lib.fusion import Method
from clippan_lib.losses.guidance import Maps, dense_step
from clippan_lib.mtf import filter_image, mtf_kernel
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import HRMS, Features

TRUE = "true"
SPOILED = ("blurred", "colour-shifted", "noisy", "misregistered")
_TAILS = torch.tensor([0.025, 0.975], dtype=torch.float64)  # of every interval here
Step = Float[Tensor, "2 d"]
Steps = Float[Tensor, "n 2 d"]


def spoil(hrms: HRMS, sensor: Sensor, strength: float | int = 1.0, seed: int = 0) -> dict[str, HRMS]:
    """A fusion spoiled in the four ways of `SPOILED`, one operation each; at strength 1:

    * blurred: the sensor's MTF filter, so that details beyond LRMS's are as weak as there (gains to the power of
      the strength);
    * colour-shifted: every second band 20 % brighter, the others 20 % darker;
    * noisy: white Gaussian noise, its standard deviation 10 % of the band's mean in the patch;
    * misregistered: moved by half an MS pixel (whole PAN pixels) down and to the right against LRMS and PAN.

    Args:
        hrms: (b, c, H, W), [0, 1].
        sensor: gains and ratio.
        strength: factor of each operation, above 0.
        seed: seed of the noise.
    Returns: name to (b, c, H, W), clipped to [0, 1].
    Raises: ValueError on a strength that is not above 0.
    """
    if not strength > 0:
        raise ValueError(
            f"strength {strength}: nothing is spoiled; give one above 0, 1 is the documented one"
        )
    kernels = mtf_kernel([gain**strength for gain in sensor.gnyq], sensor.ratio)
    sign = 1 - 2 * (torch.arange(hrms.shape[1]) % 2)
    noise = torch.randn(hrms.shape, generator=torch.Generator().manual_seed(seed))
    moved = round(strength * sensor.ratio / 2)
    height, width = hrms.shape[-2:]
    images = (
        filter_image(hrms, kernels),
        hrms * (1 + 0.2 * strength * sign.to(hrms)[:, None, None]),
        hrms + 0.1 * strength * hrms.mean((2, 3), keepdim=True) * noise.to(hrms),
        F.pad(hrms, (moved, 0, moved, 0), mode="replicate")[..., :height, :width],
    )
    return {name: image.clamp(0, 1) for name, image in zip(SPOILED, images, strict=True)}


@dataclass(frozen=True)
class Fusions:
    """How far and whither true and spoiled fusions of the same patches lie from their inputs, in CLIP's space.

    Args:
        steps: `TRUE` and each of `SPOILED` to (n, 2, d) steps from LRMS and from PAN; of unit length, or means of
            those of pixels.
        scenes: (n,) which scene each patch was cut from.
    """

    steps: dict[str, Steps]
    scenes: Int[Tensor, " n"]

    @property
    def blocks(self) -> Int[Tensor, " n"]:
        """What is drawn as a whole by `resample`: scenes, or of a single one √n runs of neighbouring patches."""
        if self.scenes.unique().numel() > 1:
            return self.scenes
        count = len(self.scenes)
        return torch.arange(count) * round(count**0.5) // count


def steps_between(out: Features, lrms: Features, pan: Features) -> Steps:
    """The steps from the two inputs to the output, of unit length (Eqs. 7-8, CLIPPan).

    Args:
        out, lrms, pan: (n, d) features.
    Returns: (n, 2, d) float64 on the CPU, [:, 0] from LRMS and [:, 1] from PAN; 0 where nothing moved.
    """
    return F.normalize(torch.stack([out - lrms, out - pan], 1).double().cpu(), dim=2)


def dense_steps_between(out: Maps, lrms: Maps, pan: Maps) -> Steps:
    """The same of features of pixels (n, d, H, W): means over them, see `guidance.dense_step`."""
    return torch.stack([dense_step(out, given) for given in (lrms, pan)], 1).double().cpu()


@torch.no_grad()
def embed_fusions(
    supervisor: Supervisor,
    patches: PatchSet,
    fuse: Method,
    strength: float | int = 1.0,
    seed: int = 0,
    most: int = 300,
    dense: bool = False,
) -> Fusions:
    """Embed the true fusion of patches and the four spoiled ones. No text takes part: one call serves all.

    Args:
        supervisor: adapted or not.
        patches: evenly thinned out to at most `most`.
        fuse: makes the true fusion, where the data has none, from (lrms, pan).
        strength, seed: see `spoil`.
        most: patches embedded.
        dense: judge the loss at every place.
    Raises: ValueError without patches, and see `spoil`.
    """
    if not len(patches):
        raise ValueError("no patches to judge protocols by: the split is empty")
    index = torch.linspace(0, len(patches) - 1, min(len(patches), most)).long().unique()
    device = supervisor.raw_texts.device
    see, between = (supervisor.maps, dense_steps_between) if dense else (supervisor.embed, steps_between)
    rows: dict[str, list[Tensor]] = {kind: [] for kind in (TRUE, *SPOILED)}
    for chunk in index.split(16 if dense else 64):
        batch = patches.batch(chunk).to(device)
        true = (fuse(batch.lrms, batch.pan) if batch.gt is None else batch.gt).clamp(0, 1)
        inputs = see("lrms", batch.lrms), see("pan", batch.pan)
        images = {TRUE: true} | spoil(true, patches.sensor, strength, seed + int(chunk[0]))
        for kind, image in images.items():
            rows[kind].append(between(see("hrms", image), *inputs))
    scenes = torch.tensor([patches.scene_of(number) for number in index.tolist()])
    return Fusions({kind: torch.cat(parts) for kind, parts in rows.items()}, scenes)


def describe(texts: Mapping[str, str | Mapping[str, str]], others: PromptSet) -> list[PromptSet]:
    """Prompt sets of texts that somebody wrote.

    Args:
        texts: name to the text of the aim (HRMS), or to all three texts under lrms, pan and hrms.
        others: gives the LRMS and PAN texts where there is only an aim.
    Raises: ValueError on a blank text, on one that equals another of its set, and as `get_prompts` does.
    """
    inputs = {"lrms": others.lrms, "pan": others.pan}
    return [
        get_prompts({"name": name, **(inputs | {"hrms": given} if isinstance(given, str) else given)})
        for name, given in texts.items()
    ]


@torch.no_grad()
def text_steps(supervisor: Supervisor, prompts: Iterable[PromptSet]) -> dict[str, Step]:
    """The steps between the texts of each set, of unit length.

    Args:
        supervisor: its text side: tower and adapter.
        prompts: sets of different names.
    Returns: name to (2, d), float64 on the CPU: from the LRMS and from the PAN text to the aim.
    Raises: ValueError on two sets of one name.
    """
    steps: dict[str, Step] = {}
    for given in prompts:
        if given.name in steps:
            raise ValueError(
                f"two prompt sets are called {given.name!r}: results would mix them up; rename one"
            )
        lrms, pan, hrms = supervisor.with_prompts(given).embed_texts().split(1)
        steps[given.name] = steps_between(hrms, lrms, pan)[0]
    return steps


@torch.no_grad()
def no_aim(supervisor: Supervisor) -> Step:
    """The candidate without any text of an aim: straight away from the LRMS and from the PAN text of a supervisor.

    Every set with these two texts shares it; what its aim adds shows beside it.
    """
    lrms, pan, hrms = supervisor.embed_texts().split(1)
    return steps_between(torch.zeros_like(hrms), lrms, pan)[0]


def random_steps(count: int, dim: int, seed: int = 0) -> Steps:
    """Pairs of independent random directions: candidates that mean nothing.

    The agreement of one such step with any fixed one has mean 0 and variance 1/dim.

    Args:
        count: pairs.
        dim: dimension of CLIP's space.
        seed: equal seeds give equal directions.
    Returns: (count, 2, dim) float64, unit length, uniform on the sphere.
    """
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 2, dim, generator=generator, dtype=torch.float64), dim=2)


def fitted_step(fusions: Fusions, kinds: Sequence[str] = SPOILED) -> Step:
    """The candidate with the largest mean difference of agreement, true minus spoiled, on these very patches.

    In closed form: agreement is linear in the candidate, so it is the mean difference of the unit steps, normalised.
    Fitted on training patches and judged on others it says what a text could reach at best.

    Args:
        fusions: fusions of training patches.
        kinds: the spoilings it shall see.
    """
    differences = [fusions.steps[TRUE] - fusions.steps[kind] for kind in kinds]
    return F.normalize(torch.stack(differences).mean((0, 1)), dim=1)


def agreement(candidates: Float[Tensor, "m 2 d"], images: Steps) -> Float[Tensor, "m n"]:
    """How well the images' steps follow each candidate's: the mean of both cosines, 1 - L_d of Eq. 6, CLIPPan.

    Args:
        candidates: (m, 2, d) unit steps.
        images: (n, 2, d) steps, at most 1 long.
    Returns: (m, n) in [-1, 1]; 1 if both steps are the same, 0 if orthogonal, -1 if opposite.
    """
    return torch.einsum("mkd,nkd->mn", candidates, images) / 2


def margins(candidates: Float[Tensor, "m 2 d"], fusions: Fusions) -> Float[Tensor, "m s n"]:
    """Agreement of the true fusion minus that of each spoiled one of the same patch; positive is right.

    Returns: (m, len(SPOILED), n) in [-2, 2].
    """
    true = agreement(candidates, fusions.steps[TRUE])
    return torch.stack([true - agreement(candidates, fusions.steps[kind]) for kind in SPOILED], 1)


def won(margin: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 where the true fusion agrees better, 0 where the spoiled one does, 1/2 for a tie."""
    return (torch.sign(margin) + 1) / 2


def resample(
    values: Float[Tensor, "m n"], blocks: Int[Tensor, " n"], draws: int = 2000, seed: int = 0
) -> Float[Tensor, "draws m"]:
    """Bootstrap of the mean over patches, drawing whole blocks with replacement.

    Davison and Hinkley 1997 [davison1997bootstrap], section 3.8. All rows share the draws, so that they may be
    compared draw by draw. Few blocks give intervals that are too narrow: with g of them by about the factor
    √((g - 1)/g), and the tails of so few are not known at all.

    Args:
        values: (m, n), a row per candidate, a column per patch.
        blocks: (n,), patches that are not independent share a number.
        draws: how many.
        seed: seed of the draws.
    Returns: (draws, m) means.
    Raises: ValueError on a single block: it has no spread to draw from.
    """
    _, block, sizes = blocks.unique(return_inverse=True, return_counts=True)
    count = len(sizes)
    if count < 2:
        raise ValueError(
            f"all {len(blocks)} patches are one block: no spread to draw from; take more patches"
        )
    sums = torch.zeros(len(values), count, dtype=torch.float64).index_add_(1, block, values.double())
    drawn = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=draws)
    times = torch.from_numpy(drawn).double()
    return times @ sums.T / (times @ sizes.double())[:, None]


def rank(
    candidates: Mapping[str, Step],
    fusions: Fusions,
    chance: Float[Tensor, " r"],
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """The candidates, best first: by the share of (patch, spoiling) in which the true fusion agrees better.

    The share, not the mean difference, since the latter is that of the spoiling that moves CLIP most. Differences are
    what a gradient sees, and stand beside it.

    Args:
        candidates: name to unit steps.
        fusions: fusions of held-out patches.
        chance: shares of random directions, see `share_won`.
        draws, seed: see `resample`.
    Returns: per candidate: agreement with true fusions; wins and difference (each with its bootstrap interval,
        low and high, 95 %); best, the probability (share of draws) of winning most often; beats_random, the share of
        `chance` that it exceeds, ties by half. Ties of best are shared.
    """
    stacked = torch.stack([*candidates.values()])
    margin = margins(stacked, fusions)
    table = {"agreement": agreement(stacked, fusions.steps[TRUE]).mean(1)}
    drawn = {}
    for name, values in {"wins": won(margin).mean(1), "difference": margin.mean(1)}.items():
        drawn[name] = resample(values, fusions.blocks, draws, seed)
        table[name] = values.mean(1)
        table[f"{name}_low"], table[f"{name}_high"] = drawn[name].quantile(_TAILS, dim=0)
    # Means of the same wins differ in their last bits only
    first = drawn["wins"] > drawn["wins"].amax(1, keepdim=True) - 1e-9
    table["best"] = (first / first.sum(1, keepdim=True)).mean(0)
    table["beats_random"] = won(table["wins"][:, None] - chance[None]).mean(1)
    frame = pd.DataFrame({name: column.numpy() for name, column in table.items()}, index=[*candidates])
    return frame.rename_axis("candidate").sort_values("wins", ascending=False, kind="stable")


def share_won(candidates: Float[Tensor, "m 2 d"], fusions: Fusions) -> Float[Tensor, " m"]:
    """Share of (patch, spoiling) in which the true fusion agrees better, in [0, 1]; ties count half."""
    return won(margins(candidates, fusions)).mean((1, 2))


def by_spoiling(candidates: Mapping[str, Step], fusions: Fusions) -> pd.DataFrame:
    """Per candidate and spoiling: the share of patches that the true fusion wins, and its mean difference."""
    margin = margins(torch.stack([*candidates.values()]), fusions)
    parts = {"wins": won(margin).mean(2), "difference": margin.mean(2)}
    columns = {
        (kind, name): part[:, place].numpy()
        for place, kind in enumerate(SPOILED)
        for name, part in parts.items()
    }
    return pd.DataFrame(columns, index=[*candidates]).rename_axis("candidate")


def against(
    reference: str, candidates: Mapping[str, Step], fusions: Fusions, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """How much more often than the reference each other candidate is right, patch by patch on the same patches.

    Two wide intervals of `rank` may overlap although one candidate is right wherever the other is and more: this
    is the paired comparison.

    Args:
        reference: name of a candidate.
        candidates: name to unit steps.
        fusions: fusions of held-out patches.
        draws, seed: see `resample`.
    Returns: per other candidate: lead, its share won minus the reference's, and its 95 % interval, low and high.
    Raises: ValueError if the reference is no candidate.
    """
    if reference not in candidates:
        raise ValueError(f"no candidate {reference!r} to compare with; there are: {', '.join(candidates)}")
    shares = won(margins(torch.stack([*candidates.values()]), fusions)).mean(1)
    leads = shares - shares[[*candidates].index(reference)]
    low, high = resample(leads, fusions.blocks, draws, seed).quantile(_TAILS, dim=0).numpy()
    table = pd.DataFrame({"lead": leads.mean(1).numpy(), "low": low, "high": high}, index=[*candidates])
    return table.rename_axis("candidate").drop(index=reference)
