"""Stage II on the very scene that is compared, as `clippan sharpen --adapt` has it, at each scale, without truth."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clippan_lib.data import Dataset, open_dataset
from clippan_lib.errors import DataError
from clippan_lib.files import tensors_digest
from clippan_lib.fusion.registry import BANDWISE, load_bandwise
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.runs.run import Run
from clippan_lib.runs.settings import as_configured
from clippan_lib.shapes import HRMS
from clippan_lib.sharpening.adapt import FROM_BANDWISE, scene_manifest
from clippan_lib.sharpening.areas import Judged, Setting
from clippan_lib.sharpening.contest import Contest, Entrant, in_units
from clippan_lib.training.config import RunConfig, make_config

PRESETS = ("smoke", "demo")
NAME = "adapted"
_PATCH = 12  # LRMS px, at most: one scale down little is left of a scene
_LEAST = 11  # LRMS px: what the structure term of Stage I needs
_ALL: dict[Setting, dict[str, float]] = {
    "reduced": {"train": 0.0, "val": 0.0, "test": 1.0},
    "as_delivered": {"train": 0.0, "val": 0.0, "test": 1.0},
    "full": {"train": 1.0, "val": 0.0, "test": 0.0},
}


@dataclass(frozen=True)
class Training:
    """What one setting trains on."""

    dataset: Dataset
    config: RunConfig

    def network(self, seed: int) -> nn.Module:
        """Trained with language, from the band-wise network of the package."""
        with torch.enable_grad(), tempfile.TemporaryDirectory() as folder:
            run = Run(self.dataset, self.config, seed, torch.device("cpu"), Path(folder))
            supervisor = run.new_supervisor()
            run.stage1(supervisor, "supervisor")
            start = load_bandwise(self.dataset.sensor, self.dataset.ratio)
            return run.stage2({NAME: supervisor}, start, "full", 1)[NAME][0].network


@dataclass(frozen=True)
class Adapted:
    """Trains, once per setting, and fuses, when it is called with one.

    Args:
        trainings: what each setting trains on.
        seed: seed of the training.
        largest: the digital number that is 1 in the images.
        trained: the network trained at full resolution, if there is one already.
        networks: what was trained so far.
    """

    trainings: Mapping[Setting, Training]
    seed: int
    largest: float
    trained: TrainedNetwork | None
    networks: dict[Setting, nn.Module] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, judged: Judged) -> HRMS:
        if judged.setting == "full" and self.trained is not None:
            return in_units(self.trained, self.largest)(judged)
        if judged.setting not in self.networks:
            self.networks[judged.setting] = self.trainings[judged.setting].network(self.seed)
        with torch.no_grad():
            return self.networks[judged.setting](judged.lrms, judged.pan)


def adapted(
    contest: Contest,
    out: Path,
    *,
    preset: str = "demo",
    seed: int = 0,
    trained: TrainedNetwork | None = None,
) -> Entrant:
    """The network that the package would adapt to this scene, trained on what each setting shows.

    One scale down that is all of the degraded pair, without the truth that judges; at full resolution all of the pair.

    Args:
        contest: the scene, and the settings.
        out: names the data set.
        preset: "smoke" or "demo".
        seed: seed of the training.
        trained: what was trained on the scene at full resolution already, and is not trained again.
    Raises: DataError for another preset, or a scene of which too little is left one scale down.
    """
    if preset not in PRESETS:
        raise DataError(
            f"preset {preset!r} is not trained one scale down; choose one of {', '.join(PRESETS)}, or leave --adapt "
            "out"
        )
    trainings = {
        judged.setting: _prepared(contest, judged.setting, out, preset) for judged in contest.settings
    }
    fused = Adapted(trainings, seed, contest.areas.largest, trained)
    identity = f"{preset} {seed}" + (f" {tensors_digest(trained.network.state_dict())}" if trained else "")
    return Entrant(NAME, fused, seed=seed, identity=identity)


def _prepared(
    contest: Contest,
    setting: Setting,
    out: Path,
    preset: str,
) -> Training:
    manifest, root = scene_manifest(
        contest.files,
        out,
        contest.sensor,
        contest.opening,
        contest.placed.shift,
        contest.areas.largest,
        _ALL[setting],
    )
    changes: dict[str, Any] = {"network": BANDWISE, "gains": "table", **FROM_BANDWISE}
    if setting != "full":
        side = min(next(judged for judged in contest.settings if judged.setting == setting).lrms.shape[-2:])
        patch = min(make_config(preset).patch, _PATCH, side - 1)  # so that there are two at least
        if patch < _LEAST:
            raise DataError(
                f"one scale down {side} LRMS px are left of the scene, and training there needs {_LEAST + 1}; give a "
                "larger scene, or leave --adapt out"
            )
        truth = "sharp" if setting == "reduced" else "delivered"
        changes |= {
            "scale": "reduced",
            "patches_from": "judged",
            "truth": truth,
            "patch": patch,
            "stride_full": min(patch, side - patch),
        }
    config = make_config(preset, **changes)
    dataset = as_configured(open_dataset(manifest, root), config, None)
    dataset.patches("train", "full", config.patch)
    return Training(dataset, config)
