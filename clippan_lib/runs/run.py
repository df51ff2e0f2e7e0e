"""One run: a dataset, a configuration, a seed, a device and the folder that holds everything it makes.

The notebooks' way into the library: each opens the run with the same parameters and asks it for the next stage.
"""

from clippan_lib.errors import MissingStage
from clippan_lib.errors import ManifestError
from clippan_lib.errors import DataError
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from clippan_lib import __version__
from clippan_lib.clip import Supervisor, get_prompts, load_clip
from clippan_lib.data import Dataset, PatchSet, load_manifest, open_dataset
from clippan_lib.fusion import NETWORKS, Method, build_network, get_method
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.shapes import Progress
from clippan_lib.runs.progress import run_progress
from clippan_lib.training.batches import PatchStore
from clippan_lib.training.config import RunConfig, make_config
from clippan_lib.training.loop import History
from clippan_lib.training.pseudo import train_pseudo
from clippan_lib.training.stage1 import adapt
from clippan_lib.training.stage2 import train_fusion


@dataclass(frozen=True)
class Trained:
    """A fusion network and how it got there."""

    network: nn.Module
    history: History


@dataclass(frozen=True)
class Run:
    """Made by `open_run`.

    Args:
        dataset: the scenes and patches.
        config: every number.
        seed: of all randomness.
        device: where to compute.
        folder: runs/<dataset>/<name>.
    """

    dataset: Dataset
    config: RunConfig
    seed: int
    device: torch.device
    folder: Path

    @property
    def progress(self) -> Progress:
        """Callback of one training loop: see `run_progress`."""
        return run_progress(self.folder)

    def patches(self, split: str, resolution: str) -> PatchSet:
        """Patches of the configured size; training patches may overlap one another, never another split."""
        strides = {"full": self.config.stride_full, "reduced": self.config.stride_reduced}
        stride = strides.get(resolution) if split == "train" else None
        return self.dataset.patches(split, resolution, self.config.patch, stride)

    def hrms_method(self, name: str | None = None) -> Method:
        """The classical method that stands for HRMS where there is none, Stage I's by default."""
        return get_method(name or self.config.hrms_source, self.dataset.sensor, self.dataset.ratio)

    def new_supervisor(self, clip_weights: str | None = None, adapted: bool = True) -> Supervisor:
        """A supervisor before Stage I, its display stretch fitted on training patches.

        Args:
            clip_weights: replaces the configured weights, such as "random:0" for the control.
            adapted: False leaves all adapters out (residual 0): CLIP as it is.
        """
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            supervisor = Supervisor(
                load_clip(config.clip_model, clip_weights or config.clip_weights),
                self.dataset.sensor,
                get_prompts(config.prompts),
                stem=config.stem,
                adapters=config.adapters,
                reduction=config.reduction,
                image_residual=config.image_residual if adapted else 0.0,
                text_residual=config.text_residual if adapted else 0.0,
            )
        train = self.patches("train", "full")
        some = train.batch(torch.linspace(0, len(train) - 1, min(len(train), 256)).long().unique())
        supervisor.fit_stretch(some.lrms, some.pan)
        return supervisor.to(self.device)

    def with_network(self, name: str) -> "Run":
        """The same run with another fusion network, which with a warm start is its own pseudo-supervisor."""
        changes = {"network": name} | ({"pseudo": name} if self.config.warm_start else {})
        return replace(self, config=self.config.model_copy(update=changes))

    def stage1(self, supervisor: Supervisor, name: str) -> History:
        """Adapt a supervisor on full-resolution training patches and keep it as stage1/<name>.safetensors."""
        folder = self.folder / "stage1"
        folder.mkdir(parents=True, exist_ok=True)
        history = adapt(
            supervisor,
            self.patches("train", "full"),
            self.config,
            seed=self.seed,
            device=self.device,
            checkpoint=folder / "training" / f"{name}.safetensors",
            progress=self.progress,
        )
        supervisor.freeze().save(folder / f"{name}.safetensors")
        return history

    def adapted_supervisor(self, name: str = "supervisor") -> Supervisor:
        """What `stage1` kept, frozen.

        Raises: MissingStage if it is not there.
        """
        path = self.folder / "stage1" / f"{name}.safetensors"
        if not path.is_file():
            raise MissingStage(f"{path} is missing: run 02_stage1_adaptation with the same run_dir first")
        return Supervisor.load(path).to(self.device)

    def pseudo_supervisor(self) -> Method:
        """The pseudo-supervisor, trained at reduced resolution by the first call and kept.

        A network that was trained here is also left as networks/reduced/<network>-pseudo-<seed>.safetensors.
        """
        pseudo, _ = train_pseudo(
            self.patches("train", "reduced"),
            self.config,
            seed=self.seed,
            device=self.device,
            checkpoint=self.folder / "stage2" / "pseudo.safetensors",
            progress=self.progress,
        )
        if self.config.pseudo in NETWORKS:
            self._keep(pseudo, self.config.pseudo, "reduced", f"{self.config.pseudo}-pseudo", self.seed)
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
        network = build_network(self.config.network, self.dataset.n_bands, self.dataset.ratio, seed)
        history = train_fusion(
            network,
            store,
            self.config,
            supervised=resolution == "reduced",
            supervisor=supervisor,
            pseudo=pseudo,
            seed=seed,
            checkpoint=self.folder / "stage2" / resolution / f"{name}-{seed}.safetensors",
            features=features,
            label=f"Stage II, {resolution} resolution, {name}, seed {seed}",
            progress=self.progress,
        )
        self._keep(network, self.config.network, resolution, name, seed)
        return Trained(network.eval(), history)

    def _keep(self, network: nn.Module, name: str, resolution: str, variant: str, seed: int) -> None:
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
        path = self.folder / "networks" / resolution / f"{variant}-{seed}.safetensors"
        TrainedNetwork(network, name, sensor, max_value, origin).save(path)


def open_run(
    manifest: str | Path,
    data_root: str | Path,
    run_dir: str | Path,
    preset: str,
    seed: int,
    device: str,
    overrides: Mapping[str, Any],
) -> Run:
    """Open a run; its folder is made if needed.

    Args:
        manifest: a file of data_manifests/.
        data_root: folder of the data files; "" for the manifest's own.
        run_dir: the run's folder.
        preset: "smoke", "demo" or "paper".
        seed: 0 or more.
        device: "cpu", "cuda" or another name of torch's.
        overrides: fields of `RunConfig` that replace the preset's.
    Raises: ManifestError, DataError, ValueError for what does not fit; nothing is written then.
    """
    dataset = open_dataset(load_manifest(manifest), data_root)
    config = make_config(preset, **overrides)
    folder = Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return Run(dataset, config, seed, torch.device(device), folder)
