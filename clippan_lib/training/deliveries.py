"""What a judge of fusions learns from: deliveries with their truth, fusions of them, and spoiled truths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clippan_lib.clip.adapters import Stretch
from clippan_lib.clip.aims import blurred
from clippan_lib.data.synthetic import COVERS
from clippan_lib.data.synthetic.materials import wavelengths
from clippan_lib.fusion import get_method
from clippan_lib.fusion.pretrain import PretrainConfig, deliver, look
from clippan_lib.fusion.registry import load_bandwise, load_stack
from clippan_lib.sensors import Sensor, get_sensor
from clippan_lib.shapes import HRMS, LRMS, PAN

RATIO = 4
PATCH = 128  # PAN px of a delivery
METHODS = ("exp", "gsa", "bt_h", "mtf_glp_hpm_r", "bdsd_pc", "gsa+3", "bt_h+3", "bt_h++3")
UNSEEN_METHODS = ("gs", "awlp", "mtf_glp_fs", "pracs", "mtf_glp_hpm+3", "bdsd_pc++3")
_BANDS = {
    3: ("blue", "green", "red"),
    4: ("blue", "green", "red", "nir"),
    8: get_sensor("WV3").bands,
}

_BORDER = 2  # LRMS px of a delivery that no cut has: methods repeat border pixels there
_SPOILED = 0.35  # how often an image of a cut is a spoiled truth, and not of a method
_GOOD = ("bandwise", "stack")  # what a supervisor is asked about
_OFTEN = 0.4  # how often an image of a method is one of these
_BETWEEN = 0.5  # how often it is moved along the line to the truth

Spoiling = Callable[[HRMS, float, np.random.Generator], HRMS]


@dataclass(frozen=True)
class Delivery:
    """A pair, its truth, and what methods make of the pair; [0, 1].

    Args:
        lrms: (1, c, h, w).
        pan: (1, 1, H, W).
        gt: (1, c, H, W).
        fused: method to its (1, c, H, W), half precision.
        sensor: with the gains that methods were told.
        cover: number of the kind of land, of `synthetic.COVERS`.
    """

    lrms: LRMS
    pan: PAN
    gt: HRMS
    fused: dict[str, Tensor]
    sensor: Sensor
    cover: int

    @property
    def nm(self) -> Float[np.ndarray, " c"]:
        """Wavelengths of the bands, nanometres."""
        return wavelengths(self.sensor)


@dataclass(frozen=True)
class Cut:
    """Part of a delivery, and images on it.

    Args:
        coarse: LRMS, (1, c, h, w).
        lrms: the same interpolated, as part of the whole, (1, c, H, W).
        pan: (1, 1, H, W).
        gt: (1, c, H, W).
        fused: (k, c, H, W).
    """

    coarse: Tensor
    lrms: Tensor
    pan: Tensor
    gt: Tensor
    fused: Tensor


def cut(delivery: Delivery, count: int, size: int, rng: np.random.Generator) -> Cut:
    """Draw a place and images on it: of methods, a spoiled truth, or between one of these and the truth.

    Args:
        delivery: with a fusion "exp" among others.
        count: number of images.
        size: size of the cut, LRMS px.
        rng: draws.
    """
    last = PATCH // RATIO - _BORDER - size
    top, left = (int(rng.integers(_BORDER, last + 1)) for _ in range(2))
    low = (..., slice(top, top + size), slice(left, left + size))
    where = (..., slice(RATIO * top, RATIO * (top + size)), slice(RATIO * left, RATIO * (left + size)))
    names, ways, gt = [*delivery.fused], [*SPOILINGS.values()], delivery.gt[where]
    images = []
    for _ in range(count):
        if rng.random() < _SPOILED:
            image = ways[int(rng.integers(len(ways)))](gt, rng.random(), rng).float()
        else:
            among = _GOOD if rng.random() < _OFTEN else names
            image = delivery.fused[among[int(rng.integers(len(among)))]][where].float()
        if rng.random() < _BETWEEN:
            image = gt + rng.uniform(0.2, 1.2) * (image - gt)
        images.append(image)
    lrms = delivery.fused["exp"][where].float()
    return Cut(delivery.lrms[low], lrms, delivery.pan[where], gt, torch.cat(images))


def toned(delivery: Delivery, of_bands: Stretch, of_pan: Stretch) -> Delivery:
    """A delivery whose values spread as those do that a supervisor's display stretch was fitted on.

    A band is moved and scaled as a whole, so that nothing changes in how LRMS, truth and fusions lie to one another.
    """
    bands, pan = _between(delivery.lrms, of_bands), _between(delivery.pan, of_pan)
    return replace(
        delivery,
        lrms=_moved_by(bands, delivery.lrms),
        pan=_moved_by(pan, delivery.pan),
        gt=_moved_by(bands, delivery.gt),
        fused={name: _moved_by(bands, image.float()) for name, image in delivery.fused.items()},
    )


def _between(image: Tensor, wanted: Stretch) -> tuple[Tensor, Tensor]:
    """From an image's own display stretch to another: what is added, and a factor, of each band."""
    own = Stretch(image.shape[1])
    own.fit(image)
    factor = (wanted.hi - wanted.lo).cpu() / (own.hi - own.lo)
    offset = wanted.lo.cpu() - factor * own.lo
    return offset.view(1, -1, 1, 1), factor.view(1, -1, 1, 1)


def _moved_by(how: tuple[Tensor, Tensor], image: Tensor) -> Tensor:
    return how[0] + how[1] * image


def kind_of(bands: int, gnyq: Sequence[float]) -> Sensor:
    """A sensor with these gains, as `fusion.pretrain.deliver` has them: three, four or eight bands."""
    names = _BANDS[bands]
    blue, green, red = (names.index(name) for name in _BANDS[3])
    near = {3: red, 4: 3, 8: 6}[bands]
    return Sensor("drawn", names, 11, RATIO, tuple(gnyq), 0.2, (red, green, blue), (green, blue, near))


@torch.no_grad()
def make(seed: int, methods: Sequence[str] = METHODS, sensor: Sensor | None = None) -> Delivery:
    """Draw land, optics and a delivery, and fuse it.

    Args:
        seed: seed of the land and of all draws.
        methods: classical ones, with steps or without; the band-wise network and the stack are always there.
        sensor: whose bands it has, with other gains; None draws one with three, four or eight.
    Raises: ValueError on a sensor with another ratio, or bands that are not among WorldView's.
    """
    rng = np.random.default_rng([seed, 7])
    pair = deliver(look(seed), PretrainConfig(patch=PATCH), rng, _places(sensor) if sensor else None)
    sensor = replace(sensor, gnyq=pair.gnyq) if sensor else kind_of(pair.lrms.shape[1], pair.gnyq)
    by_name = {name: get_method(name, sensor, RATIO) for name in methods}
    by_name |= {"bandwise": load_bandwise(sensor, RATIO), "stack": load_stack(sensor, RATIO)}
    fused = {name: method(pair.lrms, pair.pan).clamp(0, 1).half() for name, method in by_name.items()}
    return Delivery(pair.lrms, pair.pan, pair.gt, fused, sensor, _cover(seed))


def _places(sensor: Sensor) -> list[int]:
    """Of the bands among the eight of WorldView."""
    names = ["nir1" if band == "nir" else band for band in sensor.bands]
    if sensor.ratio != RATIO or not set(names) <= set(_BANDS[8]):
        raise ValueError(
            f"deliveries are drawn with ratio {RATIO} and bands {', '.join(_BANDS[8])}; {sensor.name} has ratio "
            f"{sensor.ratio} and {', '.join(sensor.bands)}"
        )
    return [_BANDS[8].index(name) for name in names]


def _cover(seed: int) -> int:
    """What `draw` chooses first."""
    return int(np.random.default_rng(seed).integers(len(COVERS)))


def deviation_of(image: HRMS) -> Tensor:
    """Of each band, (b, c, 1, 1): the unit in which bands are compared; never 0."""
    return image.std((-2, -1), keepdim=True) + 1e-4


def _blur(gt: HRMS, strength: float, rng: np.random.Generator) -> HRMS:
    return blurred(gt, 0.3 + 1.2 * strength)


def _sharpen(gt: HRMS, strength: float, rng: np.random.Generator) -> HRMS:
    return gt + (0.3 + 1.2 * strength) * (gt - blurred(gt, 1.0))


def _add_noise(gt: HRMS, strength: float, rng: np.random.Generator) -> HRMS:
    noise = torch.from_numpy(rng.standard_normal(tuple(gt.shape), np.float32))
    return gt + (0.02 + 0.25 * strength) * deviation_of(gt) * noise


def _gain(gt: HRMS, strength: float, rng: np.random.Generator) -> HRMS:
    return gt * (
        1 + 0.15 * strength * torch.from_numpy(rng.standard_normal((1, gt.shape[1], 1, 1), np.float32))
    )


def _grey(gt: HRMS, strength: float, rng: np.random.Generator) -> HRMS:
    """Detail, not colour, greyed: towards the same detail in all bands."""
    calm = blurred(gt, 2.0)
    detail = (gt - calm) / deviation_of(gt)
    share = 0.2 + 0.8 * strength
    return calm + deviation_of(gt) * ((1 - share) * detail + share * detail.mean(1, keepdim=True))


def _displace(gt: HRMS, strength: float, rng: np.random.Generator) -> HRMS:
    """The whole image beside its place."""
    angle, far = rng.uniform(0, 2 * np.pi), 0.3 + 1.7 * strength
    return _moved(gt, far * np.sin(angle), far * np.cos(angle))


def _fringe(gt: HRMS, strength: float, rng: np.random.Generator) -> HRMS:
    """One band beside the others."""
    band = int(rng.integers(gt.shape[1]))
    moved = _displace(gt[:, band : band + 1], strength, rng)
    return torch.cat([gt[:, :band], moved, gt[:, band + 1 :]], 1)


def _blocks(gt: HRMS, strength: float, rng: np.random.Generator) -> HRMS:
    """Means over blocks of 4 px mixed in, as of a strong compression."""
    coarse = torch.nn.functional.avg_pool2d(gt, 4).repeat_interleave(4, -2).repeat_interleave(4, -1)
    return gt + (0.1 + 0.6 * strength) * (coarse - gt)


def _stripe(gt: HRMS, strength: float, rng: np.random.Generator) -> HRMS:
    """Columns with gains of their own, as of a badly calibrated line of detectors."""
    columns = torch.from_numpy(rng.standard_normal((1, gt.shape[1], 1, gt.shape[3]), np.float32))
    return gt + (0.02 + 0.2 * strength) * deviation_of(gt) * columns


def _moved(image: Tensor, down: float, right: float) -> Tensor:
    phase = sum(
        by * torch.fft.fftfreq(side).reshape(shape)
        for by, side, shape in ((down, image.shape[-2], (-1, 1)), (right, image.shape[-1], (1, -1)))
    )
    return torch.fft.ifft2(torch.fft.fft2(image) * torch.exp(-2j * torch.pi * phase)).real


SPOILINGS: dict[str, Spoiling] = {
    "blur": _blur,
    "over-sharpened": _sharpen,
    "noise": _add_noise,
    "gain": _gain,
    "grey detail": _grey,
}
# Kinds that no judge is trained on
UNSEEN_SPOILINGS: dict[str, Spoiling] = {
    "displaced": _displace,
    "fringes": _fringe,
    "blocks": _blocks,
    "stripes": _stripe,
}
