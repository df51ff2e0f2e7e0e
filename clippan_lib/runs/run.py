"""One run: a dataset, a configuration, a seed, a device and the folder that holds everything it makes.

The notebooks' way into the library: each opens the run with the same parameters and asks it for the next stage.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
import torch
from torch import nn

from clippan_lib import __version__
from clippan_lib.clip import Supervisor
from clippan_lib.data import Batch, Dataset, PatchSet, Scene, load_manifest, open_dataset
from clippan_lib.data.stacks import sharpness_of_truth
from clippan_lib.errors import MissingStage
from clippan_lib.evaluation.judgement import judge, table
from clippan_lib.fusion import NETWORKS, Method, get_method, network_for
from clippan_lib.fusion.registry import load_stack
from clippan_lib.fusion.stack import Stack
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.optics import Optics
from clippan_lib.runs.folder import RunFolder, newest_run, no_run
from clippan_lib.runs.parameters import refuse_unknown_parameters
from clippan_lib.runs.progress import run_progress
from clippan_lib.runs.settings import (
    Settings,
    as_configured,
    default_name,
    keep_optics,
    measured_optics,
    patch_of,
    refuse_unfit,
)
from clippan_lib.shapes import HRMS, Progress
from clippan_lib.training.batches import PatchStore
from clippan_lib.training.config import RunConfig, make_config
from clippan_lib.training.loop import History
from clippan_lib.training.pseudo import train_pseudo
from clippan_lib.training.stage1 import fit_supervisor, new_supervisor
from clippan_lib.training.stage2 import pan_sharpness, train_fusion


@dataclass(frozen=True)
class Trained:
    """A fusion network and how it got there."""

    network: nn.Module
    history: History


@dataclass(frozen=True)
class Run:
    """Made by `open_run`.

    Args:
        dataset: the scenes and patches, as the configuration wants them.
        config: every number.
        seed: seed of all randomness.
        device: where to compute.
        folder: runs/<dataset>/<name>.
        optics: what was measured of the training scenes, with config.gains "measured"; the dataset's sensor has these
            gains if their fit is good, and those of the table otherwise.
    """

    dataset: Dataset
    config: RunConfig
    seed: int
    device: torch.device
    folder: Path
    optics: Optics | None = None

    @property
    def progress(self) -> Progress:
        """Callback of one training loop: see `run_progress`."""
        return run_progress(self.folder)

    def patches(self, split: str, resolution: str) -> PatchSet:
        """Patches of the configured size, see `patch_of`; those of training may overlap, never another split."""
        strides = {"full": self.config.stride_full, "reduced": self.config.stride_reduced}
        stride = strides.get(resolution) if split == "train" else None
        return self.dataset.patches(
            split, resolution, patch_of(self.config, self.dataset, split, resolution), stride
        )

    @property
    def judged(self) -> list[Scene]:
        """The test scenes that methods may be judged by: of reduced resolution, then of full.

        With patches_from="judged" those of full resolution only, see `Dataset.lowered`.
        """
        there = [where for where in ("reduced", "full") if ("test", where) in self.dataset.available]
        return [scene for where in there for scene in self.dataset.scenes("test", where)]

    @property
    def layout(self) -> RunFolder:
        """Where everything in the folder lies."""
        return RunFolder(self.folder)

    def hrms(self, batch: Batch, name: str | None = None) -> HRMS:
        """What stands for HRMS in Stage I.

        Args:
            batch: on any device.
            name: a classical method instead of `config.hrms_source`.
        Returns: (b, c, H, W), [0, 1].
        """
        name = name or self.config.hrms_source
        if name == "gt":
            return cast(HRMS, batch.gt)  # `refuse_unfit` demands it
        method = get_method(name, self.dataset.sensor, self.dataset.ratio)
        return method(batch.lrms, batch.pan).clamp(0, 1)

    def new_supervisor(self, clip_weights: str | None = None, adapted: bool = True) -> Supervisor:
        """A supervisor before Stage I, on the run's device, see `training.stage1.new_supervisor`."""
        train = self.patches("train", "full")
        return new_supervisor(self.config, train, self.seed, clip_weights, adapted).to(self.device)

    def new_network(self, patches: PatchSet, seed: int) -> nn.Module:
        """The configured fusion network, not trained yet, with its last layer.

        Args:
            patches: what it will be trained on; at reduced resolution, with a truth, PAN is no part of it.
            seed: seed of its weights.
        """
        config = self.config
        both = config.consistent_with == "both" and patches.resolution == "full"
        sharpness = pan_sharpness(patches, config) if both else None
        return network_for(config.network, self.dataset.sensor, seed, config.consistency, sharpness)

    def stack(self, resolution: Literal["full", "reduced"]) -> Stack:
        """The stack, which needs no training, with PAN as sharp as the truth of that resolution, if there is one."""
        sensor, sharp = self.dataset.sensor, self.config.truth == "sharp"
        sharpness = (
            pan_sharpness(self.patches("train", "full"), self.config)
            if resolution == "full"
            else sharpness_of_truth(sensor, sharp)
        )
        return replace(load_stack(sensor, self.dataset.ratio), sharpness=sharpness)

    def with_network(self, name: str) -> "Run":
        """The same run with another fusion network, which with a warm start is its own pseudo-supervisor."""
        return replace(self, config=self.config.with_network(name))

    def stage1(self, supervisor: Supervisor, name: str) -> History:
        """Adapt a supervisor on full-resolution training patches and keep it as stage1/<name>.safetensors."""
        history = fit_supervisor(
            supervisor,
            self.patches("train", "full"),
            self.config,
            seed=self.seed,
            device=self.device,
            checkpoint=self.layout.supervisor_checkpoint(name),
            progress=self.progress,
        )
        supervisor.freeze().save(self.layout.supervisor(name))
        return history

    def adapted_supervisor(self, name: str = "supervisor") -> Supervisor:
        """What `stage1` kept, frozen.

        Raises: MissingStage if it is not there.
        """
        path = self.layout.supervisor(name)
        if not path.is_file():
            raise MissingStage(f"{path} is missing: run 02_stage1_adaptation with the same run_dir first")
        return Supervisor.load(path).to(self.device)

    def gates(self, supervisor: Supervisor) -> pd.DataFrame:
        """What the supervisor is worth as a judge of fused images, see `evaluation.judgement.judge`.

        Raises: ValueError on bands or a ratio that no scene can be drawn with, or if no scene is to be drawn.
        """
        if not self.config.gate_scenes:
            raise ValueError("gate_scenes is 0")
        return table(
            judge(
                supervisor,
                self.config.guidance == "dense",
                count=self.config.gate_scenes,
                progress=self.progress,
            )
        )

    def pseudo_supervisor(self) -> Method:
        """The pseudo-supervisor, trained at reduced resolution by the first call and kept.

        A network that was trained here is also left as networks/reduced/<network>-pseudo-<seed>.safetensors.
        """
        pseudo, _ = train_pseudo(
            self.patches("train", "reduced"),
            self.config,
            seed=self.seed,
            device=self.device,
            checkpoint=self.layout.pseudo_checkpoint,
            progress=self.progress,
        )
        if isinstance(pseudo, nn.Module) and self.config.pseudo in NETWORKS:
            file = self.layout.pseudo(self.config.pseudo, self.seed)
            self._keep(file, pseudo, self.config.pseudo, "reduced", f"{self.config.pseudo}-pseudo", self.seed)
        return pseudo

    def stage2(
        self,
        variants: Mapping[str, Supervisor | None],
        pseudo: Method,
        resolution: Literal["full", "reduced"],
        n_seeds: int | None = None,
        features: Path | None = None,
    ) -> dict[str, list[Trained]]:
        """Train every variant from the same start on the same batches, `config.n_seeds` times.

        Each network is left as networks/<resolution>/<variant>-<seed>.safetensors, see `TrainedNetwork`.

        Args:
            variants: name to supervisor; None is the network without the language term.
            pseudo: from `pseudo_supervisor`; also the start, with config.warm_start.
            resolution: "full" trains without ground truth (Eqs. 6-12, CLIPPan), "reduced" with L1 to it.
            n_seeds: how often, if not `config.n_seeds`; the first seeds are always the same.
            features: folder that keeps the embeddings of LRMS and PAN for other runs with the same supervisors.
        Returns: name to one trained network per seed.
        """
        store = PatchStore(self.patches("train", resolution), self.device)
        return {
            name: [
                self._train(store, supervisor, pseudo, resolution, name, self.seed + number, features)
                for number in range(n_seeds or self.config.n_seeds)
            ]
            for name, supervisor in variants.items()
        }

    def _train(
        self,
        store: PatchStore,
        supervisor: Supervisor | None,
        pseudo: Method,
        resolution: str,
        name: str,
        seed: int,
        features: Path | None,
    ) -> Trained:
        network = self.new_network(store.patches, seed)
        history = train_fusion(
            network,
            store,
            self.config,
            supervised=resolution == "reduced",
            supervisor=supervisor,
            pseudo=pseudo,
            seed=seed,
            checkpoint=self.layout.network_checkpoint(resolution, name, seed),
            features=features,
            label=f"Stage II, {resolution} resolution, {name}, seed {seed}",
            progress=self.progress,
        )
        file = self.layout.network(resolution, name, seed)
        self._keep(file, network, self.config.network, resolution, name, seed)
        return Trained(network.eval(), history)

    def _keep(
        self, file: Path, network: nn.Module, name: str, resolution: str, variant: str, seed: int
    ) -> None:
        """Write a file that can be used without this run; the latest settings replace earlier ones."""
        manifest, sensor = self.dataset.manifest, self.dataset.sensor
        max_value = float(manifest.max_value or sensor.max_value)
        origin = {
            "dataset": manifest.name,
            "manifest": manifest.digest(),
            "config": self.config.model_dump_json(),
            "variant": variant,
            "resolution": resolution,
            "seed": str(seed),
            "clippan": __version__,
        }
        TrainedNetwork(network, name, sensor, max_value, origin).save(file)

    def trained(self, variant: str, resolution: Literal["full", "reduced"]) -> TrainedNetwork:
        """A network that `stage2` kept, of the run's first seed, on the run's device.

        Raises: MissingStage if it is not there, naming those that are.
        """
        path = self.layout.network(resolution, variant, self.seed)
        if not path.is_file():
            there = ", ".join(each.relative_to(self.folder).as_posix() for each in self.layout.networks)
            raise MissingStage(
                f"{path} is missing: run 04_stage2_training with the same run_dir first. There is: {there or 'none'}"
            )
        found = TrainedNetwork.load(path)
        return replace(found, network=found.network.to(self.device))


def open_run(
    manifest: str | Path,
    data_root: str | Path,
    run_dir: str | Path,
    preset: str,
    seed: int,
    device: str,
    overrides: Mapping[str, Any],
    runs: str | Path = "",
    start: bool = False,
) -> Run:
    """Open a run. A folder belongs to one dataset, one state of its files and one set of settings for good.

    Args:
        manifest: a file of data_manifests/.
        data_root: folder of the data files; "" for the manifest's own.
        run_dir: the run's folder, made if needed; "" for the newest run in `runs` of this dataset at this preset and
            seed, with the settings that it has.
        preset: "smoke", "demo" or "paper".
        seed: 0 or more.
        device: "cpu", "cuda" or another name of torch's.
        overrides: fields of `RunConfig` that replace the preset's; with run_dir "" the run must have them.
        runs: the folder of all runs; needed with run_dir "".
        start: with run_dir "", whether to start a run where there is none, under the name `clippan run` gives it.
    Raises: ManifestError, DataError, ValueError for what does not fit; Refusal for a parameter that papermill gave and
        the notebook does not have, and for a folder that was made with other settings, naming them; MissingStage where
        there is no run to be found, listing those that are. Nothing is written then.
    """
    refuse_unknown_parameters()
    dataset = open_dataset(load_manifest(manifest), data_root)
    config = make_config(preset, **overrides)
    settings = Settings.of(dataset, preset, seed, config)
    if run_dir:
        folder = RunFolder(Path(run_dir))
    elif found := newest_run(runs, settings, overrides):
        folder, config = found, found.config
        settings = replace(settings, config=config)
    elif start:
        folder = RunFolder(Path(runs) / dataset.name / default_name(preset, config, seed, overrides))
    else:
        raise no_run(runs, settings, overrides)
    optics = measured_optics(dataset, config, folder.optics)
    dataset = as_configured(dataset, config, optics)
    refuse_unfit(config, dataset)
    folder.claim(settings)
    for remark in dataset.unscored():
        print(remark, file=sys.stderr)
    if optics:
        keep_optics(folder.optics, dataset, optics)
    return Run(dataset, config, seed, torch.device(device), folder.path, optics)
