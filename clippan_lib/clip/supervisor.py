"""The supervisor: a frozen CLIP with stems, prompts and adapters; Stage I trains it, Stage II asks it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from clippan_lib.clip.adapters import ClipAdapter, FusionAdapter, MsStem, PanStem, Stretch
from clippan_lib.clip.alternatives import LearnedContext, LowRank, Unchanged
from clippan_lib.clip.model import ClipTowers, load_clip
from clippan_lib.clip.prompts import ROLES, PromptSet, get_prompts
from clippan_lib.data.synthetic.materials import CENTRE_NM, wavelengths
from clippan_lib.errors import CheckpointError, on_one_line
from clippan_lib.files import misfit, read_tensors, write_tensors
from clippan_lib.mtf import upsample
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import HRMS, LRMS, PAN, Features, Image

ADAPTERS = ("shared", "per_type", "lora", "prompts")
_KEY = "clippan_supervisor"
_VERSION = 1
_REMEDY = "run Stage I again, or copy it again if it was cut short"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class _Clip(_Part):
    model: str
    weights: str | None
    fingerprint: str


class _Options(_Part):
    stem: str
    adapters: str
    reduction: int
    image_residual: float
    text_residual: float


class _Header(_Part):
    """What the file of a supervisor says besides its tensors; other versions may say other things."""

    version: int
    clip: _Clip
    sensor: Sensor
    prompts: PromptSet
    options: _Options
    frozen: bool


class Supervisor(nn.Module):
    """Features of LRMS, PAN and HRMS images and of their prompts, in one adapted space (Fig. 2 of the paper).

    Every feature has unit length. The towers are frozen from the start; `freeze` fixes the rest for Stage II
    and leaves the graph from a feature to its image. The towers' features of the texts are encoded once.

    Args:
        towers: the frozen CLIP. The control with a random CLIP is `load_clip(weights="random:0")` here.
        sensor: bands of the multispectral images.
        prompts: name, mapping or set: see `get_prompts`.
        stem: how bands become three channels, see `MsStem`; one stem for lrms, one for hrms.
        adapters: "per_type" is the paper's six CA modules; "shared" is one for images and one for texts,
            since an adapter of its own can give a type away without a look at the image. "lora" trains the image
            tower in the place of CA (`alternatives.LowRank`), and "prompts" a context of the texts
            (`alternatives.LearnedContext`).
        reduction: reduction of every bottleneck.
        image_residual: the image adapters' share, in [0, 1]; used by CA only.
        text_residual: the text adapters' share, in [0, 1]; used by CA only.
    Raises: ValueError on an unknown name or a value out of range; what `LearnedContext` raises.

    New weights come from torch's global generator: seed it for a repeatable Stage I.
    """

    raw_texts: Tensor

    def __init__(
        self,
        towers: ClipTowers,
        sensor: Sensor,
        prompts: str | Mapping[str, str] | PromptSet = "wald",
        stem: str = "conv",
        adapters: str = "shared",
        reduction: int = 4,
        image_residual: float = 0.2,
        text_residual: float = 0.5,
    ) -> None:
        super().__init__()
        if adapters not in ADAPTERS:
            raise ValueError(f"unknown adapters {adapters!r}; known: {', '.join(ADAPTERS)}")
        self.towers = towers
        self.sensor = sensor
        self.prompts = get_prompts(prompts)
        self.options: dict[str, Any] = {
            "stem": stem,
            "adapters": adapters,
            "reduction": reduction,
            "image_residual": image_residual,
            "text_residual": text_residual,
        }
        self.frozen = False
        names = ROLES if adapters == "per_type" else ("shared",)

        def bank(residual: float) -> nn.ModuleDict:
            if adapters in ("lora", "prompts"):
                return nn.ModuleDict({"shared": Unchanged()})
            return nn.ModuleDict({name: ClipAdapter(towers.dim, reduction, residual) for name in names})

        of_bands = _weights_of_bands(towers, sensor)
        self.stems = nn.ModuleDict(
            {
                "lrms": MsStem(stem, sensor, of_bands),
                "pan": PanStem(towers.weights_of_pan),
                "hrms": MsStem(stem, sensor, of_bands),
            }
        )
        self.image_adapters = bank(image_residual)
        self.text_adapters = bank(text_residual)
        self.lora = LowRank(towers.model.visual) if adapters == "lora" else None
        texts = list(self.prompts.texts)
        self.context = LearnedContext(towers, texts) if adapters == "prompts" else None
        self.fuse_image = FusionAdapter(towers.dim, reduction)
        self.fuse_text = FusionAdapter(towers.dim, reduction)
        self.register_buffer("raw_texts", towers.encode_text(texts), persistent=False)
        self.register_buffer("frozen_texts", None, persistent=False)

    @classmethod
    def as_it_is(cls, towers: ClipTowers, sensor: Sensor, lrms: LRMS, pan: PAN) -> "Supervisor":
        """A CLIP without Stage I: its own features, and the display stretch of these images; frozen.

        The random state is left as it was.

        Args:
            towers, sensor: as for the class.
            lrms, pan: as for `fit_stretch`.
        """
        with torch.random.fork_rng(devices=[]):  # of adapters that have no share
            made = cls(towers, sensor, image_residual=0.0, text_residual=0.0)
        made.fit_stretch(lrms, pan)
        return made.freeze()

    def fit_stretch(self, lrms: LRMS, pan: PAN) -> None:
        """Fix what the stems take from the data: display stretch, and the components of the stem "pca".

        Args:
            lrms: (n, c, h, w) training patches; hrms images get the same stretch.
            pan: (n, 1, H, W) training patches.
        Raises: ValueError on another number of bands or a constant band.
        """
        self.stems["lrms"].fit(lrms)
        self.stems["hrms"].fit(lrms)
        self.stems["pan"].fit(pan)

    def stretch(self, role: str) -> Stretch:
        """The display stretch of an image type, of `ROLES`."""
        return cast(Stretch, self.stems[role].stretch)

    def embed_lrms(self, lrms: LRMS) -> Features:
        """Adapted features (b, d) of low-resolution multispectral images (b, c, h, w)."""
        return self.embed("lrms", lrms)

    def embed_pan(self, pan: PAN) -> Features:
        """Adapted features (b, d) of panchromatic images (b, 1, H, W)."""
        return self.embed("pan", pan)

    def embed_hrms(self, hrms: HRMS) -> Features:
        """Adapted features (b, d) of high-resolution multispectral images (b, c, H, W), fused or not."""
        return self.embed("hrms", hrms)

    def embed(self, role: str, image: Image) -> Features:
        """Adapted features (b, d) of images of a type, of `ROLES`."""
        shown = self._shown(role, image)
        features = (
            self.lora.encode_image(self.towers, shown) if self.lora else self.towers.encode_image(shown)
        )
        return self._adapter(self.image_adapters, role)(features)

    def maps(self, role: str, image: Image) -> Float[Tensor, "b d h w"]:
        """Adapted features of places (`ClipTowers.encode_pixels`), of any length.

        Args:
            role: image type, of `ROLES`.
            image: as for `embed_lrms`, `embed_pan` or `embed_hrms`.
        """
        shown = self._shown(role, image)
        maps = self.lora.encode_pixels(self.towers, shown) if self.lora else self.towers.encode_pixels(shown)
        return self._adapter(self.image_adapters, role).of_places(maps)

    def embed_words(self, words: str) -> Float[Tensor, " d"]:
        """Adapted feature of words that say what a fused image is to be, in the place of the prompts' hrms text.

        Raises: ValueError on more tokens than the text tower takes.
        """
        text = self.context(self.towers, [words]) if self.context else self.towers.encode_text([words])
        return self._adapter(self.text_adapters, "hrms")(text)[0]

    def embed_texts(self) -> Float[Tensor, "3 d"]:
        """Adapted features of the three prompts, rows lrms, pan, hrms; constants once frozen."""
        return self._adapted_texts() if self.frozen_texts is None else self.frozen_texts

    def zero_shot(self, features: Features) -> Int64[Tensor, " b"]:
        """The image type whose prompt is nearest to a feature: 0 lrms, 1 pan, 2 hrms."""
        return (features.detach() @ self.embed_texts().detach().T).argmax(dim=1)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What Stage I trains: stems, adapters or what stands in their place, fusion adapters; nothing once frozen."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def freeze(self) -> "Supervisor":
        """Fix everything for Stage II. Gradients still flow from an image's feature into the image.

        Returns: itself.
        """
        self.requires_grad_(False).eval()
        self.frozen_texts = self._adapted_texts()
        self.frozen = True
        return self

    def with_prompts(self, prompts: str | Mapping[str, str] | PromptSet) -> "Supervisor":
        """The same adapted supervisor, on the same towers, with other texts: the shuffled-prompt control."""
        with torch.random.fork_rng(devices=[]):
            other = Supervisor(self.towers, self.sensor, prompts, **self.options)
        other.to(self.raw_texts.device).load_state_dict(self.state_dict())
        return other.freeze() if self.frozen else other

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As torch's, without the frozen towers, which are named in a file and not stored."""
        state = super().state_dict(*args, **kwargs)
        towers = f"{kwargs.get('prefix', '')}towers."
        for key in [key for key in state if key.startswith(towers)]:
            del state[key]
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As torch's, for a state without the towers; a frozen supervisor encodes its texts anew."""
        towers = {f"towers.{key}": value for key, value in self.towers.state_dict().items()}
        result = super().load_state_dict({**state_dict, **towers}, strict, assign)
        if self.frozen:
            self.freeze()
        return result

    def save(self, path: Path | str) -> None:
        """Write stems, adapters and all that is needed to build them again: one safetensors file, atomically.

        The frozen CLIP is named by model, weights and fingerprint, and not stored.

        Args:
            path: the file; its folder is made if need be.
        Raises: CheckpointError if it cannot be written.
        """
        write_tensors(Path(path), self.state_dict(), {_KEY: json.dumps(self._header())})

    @classmethod
    def load(cls, path: Path | str, towers: ClipTowers | None = None) -> "Supervisor":
        """Read what `save` wrote; a frozen supervisor comes back frozen. The random state is left as it was.

        Args:
            path: the file.
            towers: the CLIP it was adapted on, if it is loaded already or its weights have moved; None loads
                it by the name in the file.
        Raises: CheckpointError on a file that cannot be read or is of another kind or version, on missing or
            unknown tensors, and on a CLIP other than the one it was adapted on; ClipWeightsError if that one
            cannot be loaded.
        """
        header, tensors = _read(Path(path))
        clip = header.clip
        towers = towers or load_clip(clip.model, clip.weights)
        if towers.fingerprint != clip.fingerprint:
            raise CheckpointError(
                f"{path} was adapted on the CLIP {clip.model!r} (weights {clip.weights!r}, fingerprint "
                f"{clip.fingerprint[:12]}), but this is {towers.name!r} (weights {towers.weights!r}, "
                f"fingerprint {towers.fingerprint[:12]}): its adapters mean nothing here; run Stage I again"
            )
        try:
            with torch.random.fork_rng(devices=[]):
                supervisor = cls(towers, header.sensor, header.prompts, **header.options.model_dump())
            if found := misfit(tensors, supervisor.state_dict()):
                raise ValueError(found)
        except (ValueError, RuntimeError, ArithmeticError) as error:
            raise CheckpointError(
                f"{path} does not fit the supervisor its header describes; run Stage I again: {error}"
            ) from error
        supervisor.to(supervisor.raw_texts.device).load_state_dict(tensors)
        return supervisor.freeze() if header.frozen else supervisor

    def _header(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "clip": {
                "model": self.towers.name,
                "weights": self.towers.weights,
                "fingerprint": self.towers.fingerprint,
            },
            "sensor": asdict(self.sensor),
            "prompts": asdict(self.prompts),
            "options": self.options,
            "frozen": self.frozen,
        }

    def _shown(self, role: str, image: Tensor) -> Float[Tensor, "b 3 H W"]:
        """Three channels; for a tower that does not resize, LRMS is interpolated, so that a pixel is a pixel of PAN."""
        if role == "lrms" and self.towers.full_resolution:
            image = upsample(image, self.sensor.ratio)
        return self.stems[role](image)

    def _adapted_texts(self) -> Float[Tensor, "3 d"]:
        texts = self.context(self.towers, list(self.prompts.texts)) if self.context else self.raw_texts
        pairs = zip(ROLES, texts.split(1), strict=True)
        return torch.cat([self._adapter(self.text_adapters, role)(text) for role, text in pairs])

    def _adapter(self, bank: nn.ModuleDict, role: str) -> nn.Module:
        return bank[role] if self.options["adapters"] == "per_type" else bank["shared"]


def _weights_of_bands(towers: ClipTowers, sensor: Sensor) -> Float[Tensor, "3 c"] | None:
    """What the CLIP has learned for these bands; None where it has nothing, or a band's wavelength is not known."""
    if set(sensor.bands) <= set(CENTRE_NM):
        return towers.weights_of_bands(wavelengths(sensor))
    return None


def _read(path: Path) -> tuple[_Header, dict[str, Tensor]]:
    tensors, metadata = read_tensors(path, _REMEDY, finite=True)
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path} holds no supervisor (its metadata has the keys {sorted(metadata)}); "
            "give the file of a run's folder stage1/"
        )
    try:
        version = json.loads(metadata[_KEY])["version"]
        if version == _VERSION:
            return _Header.model_validate_json(metadata[_KEY]), tensors
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        fault = on_one_line(error) if isinstance(error, ValidationError) else repr(error)
        raise CheckpointError(f"{path} does not say what its supervisor is ({fault}); {_REMEDY}") from error
    raise CheckpointError(f"{path} has version {version}, this package reads {_VERSION}; run Stage I again")
