"""What there is to say of an image: captions of the ways in which a pansharpening run shows one, and of its land."""

import torch
from jaxtyping import Int
from torch import Tensor

from clippan_lib.clip.prompts import PROMPTS
from clippan_lib.data.synthetic import COVERS

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
                torch.randint(len(COVERS), (), generator=generator),
            )
            add(pool[int(pick)], variant, int(cover))
    for cover in range(len(COVERS)):
        add(_COVER_TEXTS[int(torch.randint(3, (), generator=generator))], -1, cover)
    return texts, torch.tensor(facts)
