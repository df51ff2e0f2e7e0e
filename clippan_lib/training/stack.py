"""Stacking: the mean of several fusions, weighted as one scale lower, where LRMS is the truth, has it best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float64
from scipy.optimize import nnls
from torch import Tensor, nn

from clippan_lib.data import Batch
from clippan_lib.fusion import Method, StagedMethod, as_staged, get_method, network_for, staged_method
from clippan_lib.fusion.registry import BANDWISE
from clippan_lib.fusion.tiled import together
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import HRMS, LRMS, PAN, Progress
from clippan_lib.training.loop import fit, mix

# One or two of each family, made consistent, and what has seen a truth at the scale of use
UNTRAINED = ("gsa+3", "bt_h+3", "bdsd_pc+3", "mtf_glp_hpm_r+3", "sr_d+3", "tv+3", BANDWISE)
TRAINED = ("pnn", "fusionnet")
ITERATIONS = 60  # longer, a network learns the lower scale and nothing but that
_STEPS = 2  # of consistency, as the networks' last layer
_BATCH, _PATCH, _LR, _CLIP = 8, 12, 1e-3, 1.0  # patches in LRMS px
_EDGE = 2  # LRMS px, which the weights do not look at
_HEAVY = 1e3  # of the row that asks for a sum of 1


@dataclass(frozen=True)
class Stack:
    """A weighted mean of methods: (lrms, pan) → hrms.

    The mean of images that agree with LRMS agrees with it too.

    Args:
        methods: name to method; those without weight are left out.
        weights: name to weight, 0 or more, of all that were asked; the sum is 1.
        sensor: of the images.
    """

    methods: Mapping[str, Method]
    weights: Mapping[str, float]
    sensor: Sensor

    def __call__(self, lrms: LRMS, pan: PAN) -> HRMS:
        """(b, c, h, w) and (b, 1, H, W) to (b, c, H, W), each member clipped to [0, 1]."""
        parts = (self.weights[name] * method(lrms, pan).clamp(0, 1) for name, method in self.methods.items())
        return torch.stack([*parts]).sum(0)

    def staged(self, ratio: int) -> StagedMethod:
        """The same in stages; it looks at its whole image if one of its members does."""
        parts = [
            as_staged(method) if isinstance(method, nn.Module) else staged_method(name, self.sensor, ratio)
            for name, method in self.methods.items()
        ]
        return together(parts, [self.weights[name] for name in self.methods])

    @property
    def summary(self) -> str:
        """Members and weights in words, the heaviest first."""
        order = sorted(self.methods, key=lambda name: -self.weights[name])
        return ", ".join(f"{name} {self.weights[name]:.2f}" for name in order)


def fit_stack(
    lower: Batch,
    sensor: Sensor,
    *,
    untrained: Sequence[str] = UNTRAINED,
    trained: Sequence[str] = TRAINED,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Stack:
    """Choose the weights of a stack one scale lower.

    Wolpert 1992 [wolpert1992stacked], with weights as in Breiman 1996 [breiman1996stacked]: none is negative; here
    they sum to 1 as well. Each network is trained on one half of the width and asked about the other: what has seen
    the truth that judges it would take all the weight. Then it is trained on the whole.

    Args:
        lower: a scene at reduced resolution, or several windows of one, with its ground truth, the LRMS of the scale
            above; each half of its width must hold patches.
        sensor: its gains serve methods and consistency.
        untrained: names that `get_method` takes.
        trained: names of networks.
        seed: of initial weights and patches.
        device: where networks are trained.
        progress: see `fit`.
    Raises: ValueError if there is no ground truth, or the images are too small.
    """
    gt, width = _truth(lower), lower.lrms.shape[-1] // 2
    if min(width, lower.lrms.shape[-2]) < 2 * _EDGE + 2:
        height = lower.lrms.shape[-2]
        raise ValueError(
            f"{height} x {2 * width} LRMS px one scale lower are too few to weigh methods by; give a larger scene"
        )
    methods: dict[str, Method] = {name: get_method(name, sensor, sensor.ratio) for name in untrained}
    with torch.no_grad():
        asked = {name: method(lower.lrms, lower.pan).clamp(0, 1) for name, method in methods.items()}
    for name in trained:
        halves = [
            _columns(lower, slice(0, width), sensor.ratio),
            _columns(lower, slice(width, None), sensor.ratio),
        ]
        crossed = [
            _trained(name, half, sensor, mix(seed, name, place), device, progress)
            for place, half in enumerate(halves)
        ]
        asked[name] = _crossed(crossed, lower, sensor.ratio * width)
        methods[name] = _trained(name, lower, sensor, mix(seed, name, "all"), device, progress)
    weights = dict(zip(asked, simplex(_products(asked, gt, sensor.ratio)).tolist(), strict=True))
    return Stack({name: methods[name] for name in asked if weights[name] > 0}, weights, sensor)


def simplex(products: Float64[np.ndarray, "k k"]) -> Float64[np.ndarray, " k"]:
    """The w that minimises w' G w, none negative, with sum 1.

    Args:
        products: G, mean products of the members' errors; positive semidefinite.
    """
    values, vectors = np.linalg.eigh(products)
    root = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
    heavy = _HEAVY * max(np.abs(root).max(), np.finfo(float).tiny)
    rows = np.vstack([root, np.full((1, len(products)), heavy)])
    found, _ = nnls(rows, np.append(np.zeros(len(root)), heavy))
    return found / found.sum()


def _products(asked: Mapping[str, HRMS], gt: HRMS, ratio: int) -> Float64[np.ndarray, "k k"]:
    """Mean products of the members' errors, in units of each band's deviation, without the border."""
    edge = _EDGE * ratio
    inner = (..., slice(edge, -edge), slice(edge, -edge))
    unit = gt.std((-2, -1), keepdim=True).clamp(min=1e-6)
    errors = torch.stack([((hrms - gt) / unit)[inner].flatten() for hrms in asked.values()]).double()
    return (errors @ errors.T / errors.shape[1]).numpy()


def _columns(lower: Batch, part: slice, ratio: int) -> Batch:
    fine = slice(part.start and ratio * part.start, part.stop and ratio * part.stop)
    return Batch(lower.lrms[..., part], lower.pan[..., fine], _truth(lower)[..., fine], lower.index)


def _truth(lower: Batch) -> HRMS:
    if lower.gt is None:
        raise ValueError(
            "a stack is weighted by the truth one scale lower: give a batch at reduced resolution"
        )
    return lower.gt


@torch.no_grad()
def _crossed(networks: Sequence[nn.Module], lower: Batch, middle: int) -> HRMS:
    """Of each half what the network of the other half makes of it."""
    left, right = (network(lower.lrms, lower.pan).clamp(0, 1) for network in reversed(networks))
    return torch.cat([left[..., :middle], right[..., middle:]], -1)


def _trained(
    name: str, lower: Batch, sensor: Sensor, seed: int, device: torch.device | str, progress: Progress | None
) -> nn.Module:
    """A network with consistency inside, trained with L1 on random patches."""
    network = network_for(name, sensor, seed, _STEPS).to(device)
    side = min(_PATCH, *lower.lrms.shape[-2:])
    places, truth = [size - side + 1 for size in lower.lrms.shape[-2:]], _truth(lower)

    def terms(iteration: int) -> dict[str, Tensor]:
        draw = np.random.default_rng([seed, iteration])
        chosen = [
            (int(draw.integers(len(lower.lrms))), *(int(draw.integers(count)) for count in places))
            for _ in range(_BATCH)
        ]
        lrms, pan, gt = (
            torch.cat(
                [
                    image[b : b + 1, :, k * top : k * (top + side), k * left : k * (left + side)]
                    for b, top, left in chosen
                ]
            ).to(device)
            for image, k in ((lower.lrms, 1), (lower.pan, sensor.ratio), (truth, sensor.ratio))
        )
        loss = F.l1_loss(network(lrms, pan), gt)
        return {"gt": loss, "total": loss}

    fit(
        {"network": network.train()},
        terms,
        iterations=ITERATIONS,
        lr=_LR,
        schedule="cosine",
        clip_norm=_CLIP,
        seed=seed,
        label=f"stack, {name}",
        progress=progress,
    )
    return network.cpu().requires_grad_(False).eval()
