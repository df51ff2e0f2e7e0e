"""The texts that name the three image types: data, each set with its source."""

from collections.abc import Mapping
from dataclasses import dataclass

ROLES = ("lrms", "pan", "hrms")


@dataclass(frozen=True)
class PromptSet:
    """One text per image type.

    Args:
        name: how results name the set.
        lrms: text of the low-resolution multispectral image.
        pan: text of the panchromatic image.
        hrms: text of the high-resolution multispectral image: the aim of the fusion.
        source: where the wording comes from.
    Raises: ValueError on a blank text, or on two equal ones, between which there is no direction.
    """

    name: str
    lrms: str
    pan: str
    hrms: str
    source: str

    def __post_init__(self) -> None:
        for role, text in zip(ROLES, self.texts, strict=True):
            if not text.strip():
                raise ValueError(f"prompt set {self.name!r}: the text of {role} is blank")
        if len(set(self.texts)) < len(ROLES):
            raise ValueError(f"prompt set {self.name!r}: give three different texts, not {self.texts}")

    @property
    def texts(self) -> tuple[str, str, str]:
        """The texts in the order of `ROLES`."""
        return self.lrms, self.pan, self.hrms


_MS, _PAN = "a multispectral image", "a panchromatic image"
_RELEASE = "authors' release, train_stage_{}.py"

PROMPTS = {
    prompts.name: prompts
    for prompts in (
        PromptSet(
            "wald",
            _MS,
            _PAN,
            "High-quality reference image adhering to Wald's protocol: "
            "spectrally consistent with original data and spatially sharp",
            "paper, Stage I",
        ),
        PromptSet(
            "khan",
            _MS,
            _PAN,
            "High-quality fused image adhering to Khan's protocol: "
            "low frequencies of the multispectral and high frequencies of the panchromatic image",
            "ours, after Khan's consistency protocol",
        ),
        PromptSet("i", _MS, _PAN, "This image is the fusion image of the input image", "paper, Table 5 (I)"),
        PromptSet("ii", _MS, _PAN, "a fused product of the MS and PAN images", "paper, Table 5 (II)"),
        PromptSet("noise", _MS, _PAN, "an image independent of the inputs", "paper, Table 5 (Noise)"),
        PromptSet(
            "release_i",
            "A multispectral satellite image",
            "A panchromatic high-resolution image",
            "High-quality reference image with spectral consistency and spatial sharpness "
            "following Wald's protocol",
            _RELEASE.format("I"),
        ),
        PromptSet(
            "release_ii",
            "A multispectral image with rich spectral information",
            "A panchromatic image with high spatial details",
            "High-quality fused image preserving both spectral and spatial information",
            _RELEASE.format("II"),
        ),
    )
}


def get_prompts(prompts: str | Mapping[str, str] | PromptSet) -> PromptSet:
    """A prompt set by name, or the user's own.

    Args:
        prompts: a key of `PROMPTS`; or texts under the keys lrms, pan and hrms, with optional name and
            source; or a finished set, returned as it is.
    Raises: ValueError listing the known names, or the keys that are missing or too many.
    """
    if isinstance(prompts, PromptSet):
        return prompts
    if isinstance(prompts, str):
        if prompts not in PROMPTS:
            known = ", ".join(PROMPTS)
            raise ValueError(f"unknown prompt set {prompts!r}; known: {known}; or give your own three texts")
        return PROMPTS[prompts]
    keys = set(prompts)
    missing, unknown = set(ROLES) - keys, keys - {*ROLES, "name", "source"}
    if missing or unknown:
        raise ValueError(
            f"a prompt set has the keys lrms, pan, hrms (and name, source if you like); "
            f"missing: {sorted(missing)}, unknown: {sorted(unknown)}"
        )
    return PromptSet(**{"name": "custom", "source": "given by the user", **prompts})


def shuffled(prompts: PromptSet, seed: int) -> PromptSet:
    """Control: the same three texts, each under another image type, so that every text direction is wrong.

    A supervisor adapted with the right texts and then given these must not help a fusion network; where it
    helps as much, what helped was not the language.

    Args:
        prompts: the set to shuffle.
        seed: three texts have two derangements; even seeds take one, odd seeds the other.
    Returns: a set in which no text keeps its type.
    """
    shift = 1 + seed % 2
    texts = prompts.texts[shift:] + prompts.texts[:shift]
    source = f"control: the texts of {prompts.name!r}, each moved by {shift} places"
    return PromptSet(f"{prompts.name}_shuffled{shift}", *texts, source)
