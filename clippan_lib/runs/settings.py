"""The settings of a run: what may share a folder, what is refused before anything runs, and what a run is called."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clippan_lib.data import Dataset
from clippan_lib.data.stacks import is_soft, step_down
from clippan_lib.errors import Refusal
from clippan_lib.files import json_digest, keep, kept, library_digest
from clippan_lib.fusion.plugins import own_methods
from clippan_lib.metrics.no_reference import BLOCK
from clippan_lib.optics import Optics
from clippan_lib.training.config import STAGES, UNDECIDING, RunConfig

# Changes no result, nor what is shown of it
_FREE = ("checkpoint_every",)
_SSIM = 11  # LRMS px, its window in L_spec
_STAGE1 = ("w_inter", "w_intra", "w_fusion")
_FIDELITY = ("w_spec", "w_spat", "w_qnr", "w_pseudo")


@dataclass(frozen=True)
class Settings:
    """With what a run is made: equal settings, and only these, may share a folder.

    Args:
        dataset: the manifest's name.
        manifest: its digest.
        data: state of the files, see `Dataset.state`.
        preset: what `config` was made of.
        seed: seed of all randomness.
        config: every number.
        campaign: whether the run is a part of a campaign, which a notebook of the course never means.
    """

    dataset: str
    manifest: str
    data: Mapping[str, Any]
    preset: str
    seed: int
    config: RunConfig
    campaign: bool = False

    @classmethod
    def of(
        cls, dataset: Dataset, preset: str, seed: int, config: RunConfig, campaign: bool = False
    ) -> "Settings":
        """The settings of a run on a dataset."""
        manifest = dataset.manifest
        return cls(manifest.name, manifest.digest(), dataset.state(), preset, seed, config, campaign)

    @property
    def record(self) -> dict[str, Any]:
        """As JSON; of the files and the own methods that the configuration names their state is kept too."""
        return {
            "dataset": self.dataset,
            "manifest": self.manifest,
            "data": dict(self.data),
            "preset": self.preset,
            "seed": self.seed,
            "config": self.config.model_dump(mode="json"),
            "keys": {stage: self.config.key(stage) for stage in STAGES},
            "campaign": self.campaign,
            "own": own_methods(self.config.plugin),
        }


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What two records of settings do not have in common, in words; nothing if they mean the same run."""
    found = [
        f"{name} is {there[name]!r} there and {here[name]!r} here"
        for name in ("dataset", "seed")
        if there[name] != here[name]
    ]
    if there["dataset"] == here["dataset"] and there["manifest"] != here["manifest"]:
        found.append("the manifest has changed since")
    files = sorted({**there["data"], **here["data"]})
    changed = [name for name in files if there["data"].get(name) != here["data"].get(name)]
    if changed and there["manifest"] == here["manifest"]:
        found.append(f"{', '.join(changed)} changed since")
    stages = [stage for stage in STAGES if there["keys"].get(stage) != here["keys"][stage]]
    matter = {name for stage in stages for name in STAGES[stage]} | {*UNDECIDING} - {*_FREE}
    old, new = there["config"], here["config"]
    fields = [name for name in new if name in matter and old.get(name) != new[name]]
    found += [f"{name} is {old.get(name)!r} there and {new[name]!r} here" for name in fields]
    own = {**there.get("own", {}), **here["own"]}
    other = [name for name in own if there.get("own", {}).get(name) != here["own"].get(name)]
    if other:
        found.append(f"the code of {', '.join(other)} has changed since")
    if stages and not fields and not other:
        found.append(f"the files that decide {', '.join(stages)} have changed since")
    return found


def as_configured(dataset: Dataset, config: RunConfig, optics: Optics | None) -> Dataset:
    """The scenes that a run sees.

    Args:
        dataset: as its manifest says.
        config: its `truth`, `scale`, `patches_from` and its limits, `most_...`.
        optics: from `measured_optics`; its gains are taken if their fit is good. None keeps the table's.
    Raises: DataError where the source cannot give them.
    """
    if optics and optics.good:
        dataset = dataset.through(optics.gnyq)
    if config.truth == "sharp" and is_soft(dataset.sensor):
        dataset = dataset.sharpened_truth()
    if config.scale == "reduced":
        dataset = dataset.lowered(config.patches_from == "judged")
    return dataset.shortened(config.most_scenes, config.most_patches)


def measured_optics(dataset: Dataset, config: RunConfig, file: Path | None = None) -> Optics | None:
    """What was measured of the optics; None where `config.gains` asks for the table's, or it cannot be measured.

    Args:
        dataset: as its manifest says.
        config: its `gains`.
        file: from `keep_optics`; what was measured before by the same code of the same data is not measured again.
    """
    if config.gains == "table" or not dataset.measurable:
        return None
    found = kept(file) if file else None
    if found and found["key"] == _optics_key(dataset):
        return Optics(**_tuples(found["optics"]))
    try:
        return dataset.measure_optics()
    except ValueError:  # scenes too small, or without detail
        return None


def keep_optics(file: Path, dataset: Dataset, optics: Optics) -> None:
    """Write what was measured of a dataset."""
    keep(file, {"key": _optics_key(dataset), "good": optics.good, "optics": asdict(optics)})


def _optics_key(dataset: Dataset) -> str:
    return json_digest([library_digest(), dataset.manifest.digest(), dataset.state()])


def _tuples(content: Any) -> Any:
    """JSON has lists where there were tuples."""
    if isinstance(content, dict):
        return {name: _tuples(value) for name, value in content.items()}
    return tuple(map(_tuples, content)) if isinstance(content, list) else content


# Parts that are cut into patches of the configured size
PATCHED = (("train", "full"), ("test", "full"))


def refuse_unfit(config: RunConfig, dataset: Dataset) -> None:
    """Refuse at once what would end in a notebook after minutes.

    Args:
        config: configuration of the run.
        dataset: from `as_configured`.
    Raises: Refusal naming the field, the value seen and what fits.
    """
    _refuse_patch(config.patch, dataset.ratio)
    _refuse_scale(config, dataset)
    _refuse_small(config, dataset)
    if config.hrms_source == "gt" and not dataset.has_gt("train", "full"):
        raise Refusal(
            f"hrms_source='gt': {dataset.name} has no ground truth at full resolution; choose bdsd_pc or bdsd"
        )
    if config.stage1_iterations and not any(getattr(config, name) for name in _STAGE1):
        raise Refusal(
            f"{', '.join(_STAGE1)} are all 0: Stage I has nothing to train on; give one of them a weight above 0, or "
            "set stage1_iterations=0 to leave it out"
        )
    if not any(getattr(config, name) for name in _FIDELITY):
        raise Refusal(
            f"{', '.join(_FIDELITY)} are all 0: the network without language has nothing to train on at full "
            "resolution; give one of them a weight above 0"
        )
    if not config.w_gt:
        raise Refusal(
            "w_gt=0: the network without language has nothing to train on at reduced resolution; give a weight above 0"
        )


def refuse_batches(config: RunConfig, dataset: Dataset, given: Collection[str]) -> None:
    """Refuse batches that somebody asked for and that training could not fill; those of a preset take what there is.

    Args:
        config: configuration of the run.
        dataset: from `as_configured`, not unfit.
        given: fields of `config` that were set.
    Raises: Refusal naming the field, the value seen and the number of patches.
    """
    trained = {"stage1_batch": "full", "stage2_batch": "full", "pseudo_batch": "reduced"}
    strides = {"full": config.stride_full, "reduced": config.stride_reduced}
    for name in trained.keys() & given:
        where, batch = trained[name], getattr(config, name)
        size = patch_of(config, dataset, "train", where)
        there = len(dataset.patches("train", where, size, strides[where]))
        if batch > there:
            most = f" and most_patches={config.most_patches}" if there == config.most_patches else ""
            raise Refusal(
                f"{name}={batch}: {dataset.name} has {there} training patches at {where} resolution with patch="
                f"{size} and stride_{where}={strides[where]}{most}; take at most as many, or "
                + ("a larger most_patches" if most else "a smaller stride")
            )


def patch_of(config: RunConfig, dataset: Dataset, split: str, resolution: str) -> int:
    """Side of the patches of a part, LRMS px: the configured one where networks are trained or CLIP looks at patches.

    At reduced resolution that is the pseudo-supervisor, if it is trained. Parts that only judge may be smaller.
    """
    if (split, resolution) in PATCHED or (
        (split, resolution) == ("train", "reduced") and config.trains_pseudo
    ):
        return config.patch
    return min(config.patch, *dataset.size(split, resolution))


def _refuse_patch(patch: int, ratio: int) -> None:
    if patch >= _SSIM and patch * ratio % BLOCK == 0:
        return
    fit = [side for side in range(_SSIM, max(patch, BLOCK) + BLOCK + 1) if side * ratio % BLOCK == 0]
    nearest = sorted(sorted(fit, key=lambda side: abs(side - patch))[:3])
    raise Refusal(
        f"patch={patch}: at ratio {ratio} that is {patch * ratio} PAN px, and L_QNR needs whole blocks of {BLOCK}, "
        f"L_spec at least {_SSIM} LRMS px; choose {', '.join(map(str, nearest))} or another multiple"
    )


def _refuse_small(config: RunConfig, dataset: Dataset) -> None:
    """Refuse parts of a scene in which no area can be judged at reduced resolution."""
    if dataset.manifest.split is None or config.scale != "full":
        return
    patch = config.patch if config.trains_pseudo else 0
    if found := dataset.too_small(False, patch):
        raise Refusal(f"{dataset.name}: {found}")
    if config.truth == "sharp" and dataset.measurable and (found := dataset.too_small(True, patch)):
        optics = measured_optics(dataset, config)  # it takes seconds, and decides
        if is_soft(dataset.through(optics.gnyq).sensor if optics and optics.good else dataset.sensor):
            raise Refusal(
                f"{dataset.name}: {found}; the bands are soft, and a truth made sharp halves the scene first: or set "
                "truth='delivered' (-p truth=delivered)"
            )


def _refuse_scale(config: RunConfig, dataset: Dataset) -> None:
    if config.scale == "full":
        if config.patches_from == "judged":
            raise Refusal(
                "patches_from='judged': at scale='full' no truth judges the scenes, and training at reduced resolution "
                "would see the one that does; set scale='reduced', or patches_from='train'"
            )
        return
    if config.hrms_source == "gt":
        raise Refusal(
            "hrms_source='gt': at scale='reduced' the truth is the judge's and no stage may see it; choose bdsd_pc or "
            "bdsd"
        )
    step, patch = step_down(dataset.sensor, config.truth == "sharp"), config.patch
    trained = ("train", "test") if config.patches_from == "train" else ("test",)
    sizes = {split: dataset.size(split, "full") for split in trained if (split, "full") in dataset.available}
    small = {split: size for split, size in sizes.items() if min(size) < step * patch}
    for split, size in small.items():
        (height, width), (low, narrow), least = size, (side // step for side in size), step * patch
        others = ", or patches_from='judged' (-p patches_from=judged)" if [*small] == ["train"] else ""
        raise Refusal(
            f"scale='reduced': {split} scenes of {dataset.name} are {height} x {width} LRMS px one scale down, and "
            f"{low} x {narrow} one lower still, where the pseudo-supervisor is trained; patch={patch} needs "
            f"{least} x {least}. Choose scenes {-(-least // min(size))} times as long and as wide, such as those of "
            f"synthetic_wv3_large, or scale='full' (-p scale=full){others}"
        )


def default_name(preset: str, config: RunConfig, seed: int, changes: Mapping[str, Any]) -> str:
    """The name of a run's folder: other settings get another, so that a trial never replaces a finished run.

    Args:
        preset, config, seed: preset, config and seed of the run.
        changes: fields of the configuration, and parameters of notebooks, that were given.
    """
    changes = {
        name: value
        for name, value in changes.items()
        if name != "network" and (name, value) != ("pseudo", config.network)
    }
    if config.trained_pseudo():
        changes["pseudo"] = config.key("pseudo")
    mark = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:6]
    return f"{preset}_{config.network}_seed{seed}" + (f"_{mark}" if changes else "")
