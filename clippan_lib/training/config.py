"""Every number of a run in one typed place, with three presets: smoke, demo, paper."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from clippan_lib.clip.prompts import get_prompts
from clippan_lib.files import tensors_digest
from clippan_lib.fusion import CLASSICAL, NETWORKS, STACK, find_method, is_classical
from clippan_lib.fusion.plugins import load_installed, load_plugin
from clippan_lib.fusion.registry import BANDWISE
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.training.presets import PRESETS
from clippan_lib.training.states import FOLDER, own_code, state_of_clip

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

Stage = Literal["stage1", "pseudo", "supervised", "unsupervised"]

_FILE = ".safetensors"  # a pseudo-supervisor that ends so is a file


@dataclass(frozen=True)
class Decides:
    """On a field of `RunConfig`: the stages whose result depends on it, given what the stages before them made.

    Stage I ("stage1") adapts a CLIP. "pseudo" trains the pseudo-supervisor. Stage II is "supervised" at reduced
    resolution and "unsupervised" at full resolution.
    """

    stages: tuple[Stage, ...] = ()


_STAGE1 = Decides(("stage1",))
_PSEUDO = Decides(("pseudo",))
_UNSUPERVISED = Decides(("unsupervised",))
_STAGE2 = Decides(("supervised", "unsupervised"))
_LANGUAGE = Decides(("stage1", "supervised", "unsupervised"))
_NETWORKS = Decides(("pseudo", "supervised", "unsupervised"))
_REDUCED = Decides(("pseudo", "supervised"))
_FULL = Decides(("stage1", "unsupervised"))
_ALL = Decides(get_args(Stage))
_NONE = Decides()  # how often, how many, how safely: no result depends on it


class RunConfig(BaseModel):
    """The settings of a run. The defaults are the `paper` preset; build others with `make_config`."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    clip_model: Annotated[str, _STAGE1] = "ViT-B-32"
    """Architecture known to open_clip, or 'embedded'; the paper names none, its release uses ViT-B/32."""
    clip_weights: Annotated[str | None, _STAGE1] = "openai"
    """Tag, hub id or local file; None for the embedded model; 'random:SEED' is the control."""
    prompts: Annotated[str | dict[str, str], _STAGE1] = "wald"
    """Name of a prompt set, or your own three texts; 'wald' is the paper's."""
    stem: Annotated[Literal["conv", "pca", "rgb", "gbnir"], _STAGE1] = "conv"
    """How MS bands become three channels; conv is the paper's, the others are its Table 4."""
    adapters: Annotated[Literal["per_type", "shared", "lora", "prompts"], _STAGE1] = "per_type"
    """The paper's six are per_type; shared ones kept the type from leaking in our prototype. In their place: LoRA on
    the image tower, or a learned context of the prompts; both are cited by the paper, not tried there."""
    reduction: Annotated[Count, _STAGE1] = 4
    """Bottleneck of the adapters; CLIP-Adapter's and the release's."""
    image_residual: Annotated[Share, _STAGE1] = 0.2
    """Share of the adapter in an image feature; CLIP-Adapter's and the release's."""
    text_residual: Annotated[Share, _STAGE1] = 0.5
    """Share of the adapter in a text feature; the release's."""

    gains: Annotated[Literal["table", "measured"], _ALL] = "table"
    """MTF gains of the sensor, or those measured on training scenes where that fit is good; ours, see `optics`."""
    scale: Annotated[Literal["full", "reduced"], _ALL] = "full"
    """Scenes as delivered, or all of it one scale down, where the delivered LRMS is a truth that only judges."""
    patches_from: Annotated[Literal["train", "judged"], _ALL] = "train"
    """Training patches of the training scenes, or one scale down of the very scenes that are judged; ours."""
    truth: Annotated[Literal["delivered", "sharp"], _ALL] = "delivered"
    """Truth of reduced resolution: LRMS as delivered, or halved first where the sensor is soft; ours, see `wald`."""
    patch: Annotated[int, Field(ge=2), _ALL] = 16
    """Side of a training patch in LRMS pixels; 16 is the benchmarks' (64 PAN pixels)."""
    stride_full: Annotated[Count, _FULL] = 16
    """Step between full-resolution training patches in LRMS pixels; below `patch` they overlap."""
    stride_reduced: Annotated[Count, _REDUCED] = 16
    """The same at reduced resolution, where a scene holds fewer patches."""
    most_patches: Annotated[Count | None, _ALL] = None
    """Patches of a split that are used at most, the first ones; None: all; ours, for `smoke`."""
    network: Annotated[str, _STAGE2] = "pnn"
    """The fusion network that is trained; PNN is one of the paper's backbones."""
    consistency: Annotated[int, Field(ge=0, le=10), _NETWORKS] = 0
    """Steps of consistency with LRMS as the networks' last layer; ours, the paper has none."""
    consistent_with: Annotated[Literal["lrms", "both"], _UNSUPERVISED] = "lrms"
    """Whether these steps hold to PAN (of `spat_pan`), too, where training has no truth; ours."""
    pseudo: Annotated[str, _NETWORKS] = "ship"
    """Network, classical method or "stack" to imitate, or a file of a trained network; SHIP is the paper's."""
    compared: Annotated[list[str], _NONE] = [*NETWORKS]
    """Networks that 06_methods_compared trains; the paper's and ours."""
    plugin: Annotated[str | None, _NONE] = None
    """File of your own methods, see `fusion.plugins`; of its code counts what the stages use."""
    hrms_source: Annotated[Literal["bdsd_pc", "bdsd", "gt"], _STAGE1] = "bdsd_pc"
    """HRMS of Stage I; the paper cites Vivone 2019 [vivone2019robust] for BDSD, which is BDSD-PC."""

    tau_inter: Annotated[Positive, _STAGE1] = 0.07
    """Temperature of Eq. 2; the release's."""
    tau_intra: Annotated[Positive, _STAGE1] = 0.07
    """Temperature of Eq. 3; the release's."""
    w_inter: Annotated[Weight, _STAGE1] = 1.0
    """Weight of Eq. 2; the paper's."""
    w_intra: Annotated[Weight, _STAGE1] = 1.0
    """Weight of Eq. 3; the paper's."""
    w_fusion: Annotated[Weight, _STAGE1] = 1.0
    """Weight of Eq. 5; the paper's, on a mean over features."""
    w_pointing: Annotated[Weight, _STAGE1] = 0.0
    """Weight of what turns the gradient of Eq. 6 to the truth, on drawn scenes; ours, see `losses.ascent`."""
    w_order: Annotated[Weight, _STAGE1] = 0.0
    """Weight of the order of fused and spoiled images by Eq. 6, on drawn scenes; ours, likewise."""
    drawn: Annotated[Count, _STAGE1] = 32
    """Scenes drawn for these two."""
    drawn_batch: Annotated[Count, _STAGE1] = 2
    """How many of them an iteration sees, each with six images and its truth."""

    stage1_iterations: Annotated[int, Field(ge=0, le=1_000_000), _STAGE1] = 1000
    """The paper's; 0 leaves the supervisor as it is built, for Table 3."""
    stage1_batch: Annotated[int, Field(ge=2, le=1_000_000), _STAGE1] = 32
    """The paper's; contrast needs 2 or more."""
    stage1_lr: Annotated[Positive, _STAGE1] = 3e-3
    """Adam's learning rate; the paper's."""
    pseudo_iterations: Annotated[Count, _PSEUDO] = 1000
    """Ours, set as Stage II; the paper does not say how SHIP was trained."""
    pseudo_batch: Annotated[Count, _PSEUDO] = 32
    """Ours, set as Stage II."""
    pseudo_lr: Annotated[Positive, _PSEUDO] = 3e-3
    """Ours, set as Stage II."""
    stage2_iterations: Annotated[Count, _STAGE2] = 1000
    """The paper's."""
    stage2_batch: Annotated[Count, _STAGE2] = 32
    """The paper's."""
    stage2_lr: Annotated[Positive, _STAGE2] = 3e-3
    """Adam's learning rate; the paper's."""
    schedule: Annotated[Literal["constant", "cosine"], _ALL] = "constant"
    """Learning rate over the iterations; the paper mentions no schedule."""
    clip_norm: Annotated[Positive | None, _ALL] = None
    """Largest gradient norm, or None; the paper mentions none."""
    precision: Annotated[Literal["float32", "bfloat16"], _NETWORKS] = "float32"
    """Of the fusion network's layers while it trains; bfloat16 is up to twice as fast where the machine has it."""
    warm_start: Annotated[bool, _STAGE2] = False
    """Begin Stage II with the weights of the pseudo-supervisor; ours."""

    spec_degradation: Annotated[Literal["bicubic", "mtf"], _UNSUPERVISED] = "bicubic"
    """How Eq. 9 degrades the output; bicubic is the paper's."""
    spat_pan: Annotated[Literal["pan", "truth"], _UNSUPERVISED] = "pan"
    """What Eq. 10 compares with: PAN, the paper's, or PAN as sharp as the truth where that scale has one; ours."""
    w_spec: Annotated[Weight, _UNSUPERVISED] = 1.0
    """Weight of Eq. 9; the paper's."""
    w_spat: Annotated[Weight, _UNSUPERVISED] = 1.0
    """Weight of Eq. 10; the paper's."""
    w_qnr: Annotated[Weight, _UNSUPERVISED] = 1.0
    """Weight of Eq. 11; the paper's."""
    w_pseudo: Annotated[Weight, _UNSUPERVISED] = 1.0
    """Weight of the pseudo-supervision, Eq. 12; the paper's."""
    guidance: Annotated[Literal["global", "dense"], _LANGUAGE] = "global"
    """Eq. 6 of features of images, the paper's, or of every place of the image tower; ours."""
    w_language: Annotated[Weight, _STAGE2] = 1.0
    """Weight of the language direction, Eq. 6; the paper's."""
    w_gt: Annotated[Weight, Decides(("supervised",))] = 1.0
    """Weight of L1 to the ground truth where training is supervised; the paper's."""
    gate_scenes: Annotated[int, Field(ge=0, le=10_000), _NONE] = 8
    """Drawn scenes that the adapted supervisor is judged on, see `evaluation.judgement`; 0: it is not; ours."""
    most_scenes: Annotated[Count | None, _NONE] = None
    """Scenes of a split that are judged at most, and looked at as a whole; None: all; likewise."""
    n_seeds: Annotated[int, Field(ge=1, le=1000), _NONE] = 1
    """Repetitions of a comparison; the paper reports one."""
    checkpoint_every: Annotated[Count, _NONE] = 100
    """Iterations between checkpoints; ours."""

    @field_validator("network")
    @classmethod
    def _known_network(cls, name: str) -> str:
        return _one_of(name, [*NETWORKS])

    @field_validator("compared")
    @classmethod
    def _known_networks(cls, names: list[str]) -> list[str]:
        return [_one_of(name, [*NETWORKS]) for name in dict.fromkeys(names)]

    @field_validator("pseudo")
    @classmethod
    def _known_method(cls, name: str) -> str:
        if name.endswith(_FILE):
            TrainedNetwork.load(name)
            return str(Path(name).resolve())
        if is_classical(name):
            find_method(name)
            return name
        return _one_of(name, [*NETWORKS, *CLASSICAL, STACK, f"NAME{_FILE}"])

    @field_validator("gate_scenes")
    @classmethod
    def _interval_exists(cls, count: int) -> int:
        if count == 1:
            raise ValueError("one scene gives no interval: take 2 or more, or 0 for no gates")
        return count

    @field_validator("clip_model", "clip_weights", "plugin")
    @classmethod
    def _whole_path(cls, given: str | None) -> str | None:
        """Notebooks run in another folder, so what lies in a file or folder needs its whole path."""
        if given and given.startswith(FOLDER):
            return FOLDER + str(Path(given.removeprefix(FOLDER)).resolve())
        return str(Path(given).resolve()) if given and isfile(given) else given

    @field_validator("prompts")
    @classmethod
    def _known_prompts(cls, prompts: str | dict[str, str]) -> str | dict[str, str]:
        get_prompts(prompts)
        return prompts

    @model_validator(mode="after")
    def _warm_start_fits(self) -> "RunConfig":
        given = self.trained_pseudo()
        if self.warm_start and self.network != (given.name if given else self.pseudo):
            holds = f" (a {given.name})" if given else ""
            raise ValueError(
                f"warm_start copies weights, so pseudo {self.pseudo!r}{holds} must be network {self.network!r}; "
                "change one of them or set warm_start=False"
            )
        return self

    def trained_pseudo(self) -> TrainedNetwork | None:
        """What `pseudo` holds if it is a file; None if it is a name.

        Raises: CheckpointError if the file cannot be used.
        """
        return TrainedNetwork.load(self.pseudo) if self.pseudo.endswith(_FILE) else None

    @property
    def trains_pseudo(self) -> bool:
        """Whether the pseudo-supervisor is a network that the run trains at reduced resolution."""
        return self.pseudo in NETWORKS and self.pseudo != BANDWISE

    @property
    def pseudo_title(self) -> str:
        """What tables call the pseudo-supervisor."""
        if self.trains_pseudo:
            return f"{self.pseudo}, reduced-resolution"
        return f"{Path(self.pseudo).stem}, as given"

    def with_network(self, name: str) -> "RunConfig":
        """The same settings for another fusion network, which with a warm start is its own pseudo-supervisor.

        Raises: ValueError on an unknown name.
        """
        return _checked(_with_network(self.model_dump(), name))

    def key(self, stage: str, *extra: object) -> str:
        """What the result of one stage depends on, as a SHA-256.

        Of the file of a network its weights count, of a CLIP's files their state, of an own method its code; not their
        paths.

        Args:
            stage: a key of `STAGES`.
            extra: whatever else decides the result, such as the seed, the data and the initial weights.
        Raises: ValueError on an unknown stage, listing the known ones.
        """
        fields = self.model_dump(include=set(STAGES[_one_of(stage, [*STAGES])]))
        if "pseudo" in fields and (given := self.trained_pseudo()):
            fields["pseudo"] = tensors_digest(given.network.state_dict())
        for name in fields.keys() & {"clip_model", "clip_weights"}:
            fields[name] = state_of_clip(fields[name])
        if own := own_code(fields.get("network"), fields.get("pseudo")):
            fields["own"] = own
        text = json.dumps([stage, fields, [str(item) for item in extra]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _fields_of(stage: Stage) -> tuple[str, ...]:
    return tuple(name for name, field in RunConfig.model_fields.items() if stage in _decides(field.metadata))


def _decides(metadata: list[Any]) -> tuple[Stage, ...]:
    [mark] = (each for each in metadata if isinstance(each, Decides))
    return mark.stages


# Stage to the fields that decide its result, as they say themselves
STAGES: dict[str, tuple[str, ...]] = {stage: _fields_of(stage) for stage in get_args(Stage)}
# Fields that no result depends on
UNDECIDING = tuple(name for name, field in RunConfig.model_fields.items() if not _decides(field.metadata))


def make_config(preset: str, **overrides: Any) -> RunConfig:
    """The settings of a preset, with single fields replaced.

    Args:
        preset: "smoke", "demo" or "paper".
        overrides: fields of `RunConfig`; the file of `plugin` is run. A network without a pseudo-supervisor of its own
            is that itself where Stage II starts warm.
    Raises: ValueError on an unknown preset, a plugin that cannot be used, or naming each field that is unknown,
        mistyped or out of range.
    """
    load_installed()
    if isinstance(plugin := overrides.get("plugin"), str):
        load_plugin(plugin)
    defaults = {
        name: field.get_default(call_default_factory=True) for name, field in RunConfig.model_fields.items()
    }
    values = defaults | PRESETS[_one_of(preset, [*PRESETS], "preset ")] | overrides
    if "network" in overrides and "pseudo" not in overrides:
        values = _with_network(values, values["network"])
    return _checked(values)


def _with_network(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A warm start copies the pseudo-supervisor's weights, so a network is its own pseudo-supervisor then."""
    copied = values["warm_start"] and name in NETWORKS  # an unknown name is one fault, not two
    return {**values, "network": name} | ({"pseudo": name} if copied else {})


def _checked(values: Mapping[str, Any]) -> RunConfig:
    try:
        return RunConfig(**values)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(detail) for detail in error.errors())) from None


def _explain(detail: Any) -> str:
    field = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown field {field!r}; fields: {', '.join(RunConfig.model_fields)}"
    if not field:
        return detail["msg"]
    if detail["type"] == "value_error":  # one of ours, which names the value
        return f"{field}: {detail['ctx']['error']}"
    return f"{field}: {detail['msg']}, got {detail['input']!r}"


def _one_of(name: str, known: list[str], what: str = "") -> str:
    if name not in known:
        raise ValueError(f"unknown {what}{name!r}; choose from {', '.join(known)}")
    return name
