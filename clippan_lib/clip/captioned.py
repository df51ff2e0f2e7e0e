"""Captioned pictures for pre-training: rendered patches in the seven ways a pansharpening run shows them."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from clippan_lib.clip.prompts import PROMPTS
from clippan_lib.data.synthetic import COVERS, render
from clippan_lib.sensors import SENSORS

LOW, HIGH = -0.25, 1.25  # display values kept in the cache: a stretch to percentiles leaves [0, 1]
_SENSORS = ("WV3", "QB", "WV2", "IKONOS", "WV3", "GE1", "WV2", "GF2", "WV3", "L8")
Pixels = Float[Tensor, "b 3 H W"]

_HRMS_TEXTS = [PROMPTS[name].hrms for name in ("wald", "khan", "i", "ii", "release_i", "release_ii")]
VARIANTS: dict[str, tuple[str, ...]] = {
    "lrms": (
        *dict.fromkeys(prompts.lrms for prompts in PROMPTS.values()),
        "a low resolution multispectral image of {cover}",
        "a multispectral satellite image of {cover}",
        "a coarse MS image with rich spectral information of {cover}",
    ),
    "hrms": (
        *_HRMS_TEXTS,
        "High-quality reference image of {cover}, spectrally consistent and spatially sharp",
        "a high resolution multispectral fused image of {cover}",
        "the sharp fusion image of {cover} with original colours",
    ),
    "pan": (
        *dict.fromkeys(prompts.pan for prompts in PROMPTS.values()),
        "a panchromatic image of {cover}",
        "a sharp grey PAN image of {cover} with high spatial details",
    ),
    "blurred": (
        "a blurred image",
        "a fused image without spatial details",
        "a blurred colour image of {cover}",
    ),
    "distorted": (
        "a spectrally distorted image",
        "a sharp image with wrong colours",
        "a fused image of {cover} with spectral distortion",
    ),
    "noisy": ("a noisy image", "a noisy colour image of {cover}", "a fused image with random noise"),
    "blurred_pan": ("a blurred panchromatic image", "a low resolution grey PAN image of {cover}"),
}
COVER_NAMES: dict[str, tuple[str, ...]] = {
    "urban": ("a suburb", "a residential area", "houses and streets"),
    "farmland": ("farmland", "fields and crops", "an agricultural area"),
    "forest": ("a forest", "trees", "woodland"),
    "water": ("water", "a lake", "a coast"),
    "desert": ("a desert", "sand and rock", "bare dunes"),
    "city": ("a city", "an urban area", "tall buildings"),
}
_COVER_TEXTS = ("a satellite image of {cover}", "an aerial view of {cover}", "{cover} seen from above")


@dataclass(frozen=True)
class Patches:
    """Display patches of 64 pixels, as bytes between LOW and HIGH, and the land cover of their scenes."""

    lrms: UInt8[Tensor, "n 3 64 64"]
    hrms: UInt8[Tensor, "n 3 64 64"]
    pan: UInt8[Tensor, "n 1 64 64"]
    cover: Int[Tensor, " n"]

    def show(self, index: Int[Tensor, " b"]) -> tuple[Pixels, Pixels, Pixels]:
        """LRMS, HRMS and PAN (in three channels) of some patches, nominally in [0, 1]."""
        planes = (
            plane[index].float() / 255 * (HIGH - LOW) + LOW for plane in (self.lrms, self.hrms, self.pan)
        )
        lrms, hrms, pan = planes
        return lrms, hrms, pan.expand(-1, 3, -1, -1)


def _stretched(image: Tensor, reference: Tensor, blend: float, jitter: Tensor) -> Tensor:
    """Stretch of `reference`'s 2..98 percentiles, blended with a fixed one, as a stretch over many scenes."""
    low, high = torch.quantile(reference[:, ::3, ::3].flatten(1), torch.tensor([0.02, 0.98]), dim=1)
    low, high = (1 - blend) * low + blend * 0.07, (1 - blend) * high + blend * 0.42
    span = (high - low).clamp_min(0.02)
    low, high = low + 0.12 * jitter[0] * span, high + 0.15 * jitter[1] * span
    return (image - low[:, None, None]) / (high - low)[:, None, None]


def _bytes(image: Tensor) -> Tensor:
    image = image[None]
    if image.shape[-1] != 64:
        image = F.interpolate(image, (64, 64), mode="bicubic", antialias=True, align_corners=False)
    return ((image - LOW) / (HIGH - LOW) * 255).round().clamp(0, 255).to(torch.uint8)


def make_patches(first_seed: int, scenes: int, patches: int) -> Patches:
    """Patches of rendered scenes, most of them 64 PAN pixels wide, a third 128.

    Args:
        first_seed: of `scenes` consecutive scene seeds.
        scenes: how many scenes, cycling through the sensors.
        patches: patches per scene.
    """
    rows: dict[str, list[Tensor]] = {"lrms": [], "hrms": [], "pan": []}
    covers = []
    for seed in range(first_seed, first_seed + scenes):
        rng, sensor = np.random.default_rng(seed), SENSORS[_SENSORS[seed % len(_SENSORS)]]
        scene = render(seed, sensor)
        bands = list(sensor.gbnir[::-1] if rng.random() < 0.1 else sensor.rgb)
        blend, jitter = rng.uniform(0, 1), torch.from_numpy(rng.uniform(-1, 1, (2, 1))).float()
        lrms, hrms = (
            _stretched(scene[key][bands], scene["lrms"][bands], blend, jitter) for key in ("lrms", "gt")
        )
        pan = _stretched(scene["pan"], scene["pan"], blend, jitter)
        for i in range(patches):
            side = 128 if i % 3 == 2 else 64
            top, left = rng.integers(0, (256 - side) // sensor.ratio + 1, 2)
            for name, plane, step in (
                ("lrms", lrms, 1),
                ("hrms", hrms, sensor.ratio),
                ("pan", pan, sensor.ratio),
            ):
                size = side * step // sensor.ratio
                crop = plane[:, top * step : top * step + size, left * step : left * step + size]
                rows[name].append(_bytes(crop))
            covers.append(COVERS.index(scene["cover"]))
    return Patches(**{name: torch.cat(planes) for name, planes in rows.items()}, cover=torch.tensor(covers))


def _distort(hrms: Pixels, pan: Pixels, generator: torch.Generator) -> Pixels:
    """Wrong colours: every other image greyed by PAN, the rest with channels mixed up."""
    share = torch.rand(len(hrms), 1, 1, 1, generator=generator)
    grey = 0.3 + 0.4 * share
    mix = 0.5 + 0.5 * share
    mixed = (1 - mix) * hrms + mix * hrms.roll(1 + int(torch.randint(2, (), generator=generator)), 1)
    every_other = (torch.arange(len(hrms)) % 2 == 0)[:, None, None, None]
    return torch.where(every_other, (1 - grey) * hrms + grey * pan, mixed)


def show_variant(name: str, patches: Patches, index: Int[Tensor, " b"], generator: torch.Generator) -> Pixels:
    """Patches as one of `VARIANTS` shows them, with random strength.

    Args:
        name: key of `VARIANTS`.
        patches: where they come from.
        index: which of them.
        generator: source of every random choice.
    Returns: (b, 3, 64, 64), nominally in [0, 1].
    """
    lrms, hrms, pan = patches.show(index)
    blur, level = torch.rand(2, generator=generator).tolist()
    if name.startswith("blurred"):
        return gaussian_blur(pan if name == "blurred_pan" else hrms, [13, 13], [0.9 + 1.6 * blur] * 2)
    if name == "distorted":
        return _distort(hrms, pan, generator)
    if name == "noisy":
        return hrms + (0.06 + 0.12 * level) * torch.randn(hrms.shape, generator=generator)
    return {"lrms": lrms, "hrms": hrms, "pan": pan}[name]


def augment(pixels: Pixels, generator: torch.Generator) -> Pixels:
    turn, flip, clip, gain = torch.rand(4, generator=generator).tolist()
    pixels = torch.rot90(pixels, int(4 * turn), (2, 3))
    pixels = pixels.flip(3) if flip < 0.5 else pixels
    pixels = pixels + 0.006 * torch.randn(pixels.shape, generator=generator)
    return pixels.clamp(0, 1) if clip < 0.5 else pixels * (0.85 + 0.3 * gain)


def draw_captions(generator: torch.Generator) -> tuple[list[str], Int[Tensor, "k 2"]]:
    """Captions of one step: four per variant and one per land cover.

    Returns: the texts, and for each the index of its variant and of its land cover, -1 where it names none.
    """
    texts, facts = [], []

    def add(template: str, variant: int, cover: int) -> None:
        names = COVER_NAMES[COVERS[cover]]
        texts.append(template.format(cover=names[int(torch.randint(len(names), (), generator=generator))]))
        facts.append((variant, cover if "{cover}" in template else -1))

    for variant, templates in enumerate(VARIANTS.values()):
        general = [template for template in templates if "{" not in template]
        for pool in (general, general, templates, templates):
            pick, cover = (
                torch.randint(len(pool), (), generator=generator),
                torch.randint(5, (), generator=generator),
            )
            add(pool[int(pick)], variant, int(cover))
    for cover in range(len(COVERS)):
        add(_COVER_TEXTS[int(torch.randint(3, (), generator=generator))], -1, cover)
    return texts, torch.tensor(facts)
