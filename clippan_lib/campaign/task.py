"""One run of a campaign: a notebook with its parameters, in a folder named after all that decides its result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from clippan_lib.data import Manifest
from clippan_lib.runs.folder import RunFolder
from clippan_lib.runs.plan import NOTEBOOKS as COURSE
from clippan_lib.runs.plan import Plan, plan_run
from clippan_lib.training.config import STAGES, RunConfig, Stage, make_config

NOTEBOOKS = COURSE / "campaign"
SUPERVISOR, PSEUDO, EXPERIMENT, CLASSICAL = (
    "01_supervisor",
    "02_pseudo_supervisor",
    "03_experiment",
    "04_classical",
)
# Which stages each notebook runs
_STAGES: dict[str, tuple[Stage, ...]] = {
    SUPERVISOR: ("stage1",),
    PSEUDO: ("pseudo",),
    EXPERIMENT: ("supervised", "unsupervised"),
    CLASSICAL: (),
}


def fields_of(notebook: str) -> list[str]:
    """Which fields of the configuration a notebook is given: what decides its stages, and what decides nothing."""
    stages = _STAGES[notebook]
    fields = {name for stage in stages for name in STAGES[stage]} | (
        {"checkpoint_every"} if stages else set()
    )
    # what decides which scenes there are
    fields |= {"gains", "truth", "scale", "patches_from"} if notebook == CLASSICAL else set()
    # a warm start asks for the network to be its own pseudo-supervisor
    fields |= {"network"} if notebook == PSEUDO else set()
    return [name for name in RunConfig.model_fields if name in fields]


def file_of(manifest: Manifest) -> Path:
    """The file of a campaign's manifest."""
    return cast(Path, manifest.file)  # `plan_campaign` read it from one


@dataclass(frozen=True)
class Task:
    """One run of one notebook.

    Args:
        notebook: its name.
        manifest: manifest of the dataset.
        data: folder of the data files; None for the manifest's own.
        preset, seed, device: as in `plan_run`.
        changes: fields of `RunConfig` that differ from the preset's.
        extra: parameters of this notebook alone.
        needs: parameter, or field, to the task whose product is its value.
    """

    notebook: str
    manifest: Manifest
    data: Path | None
    preset: str
    seed: int
    device: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, "Task"] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        """Of its folder."""
        needed = {name: task.name for name, task in self.needs.items()}
        decides = [self.preset, self.device, dict(self.changes), dict(self.extra), needed]
        mark = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:10]
        return f"{self.notebook[3:]}_{mark}_seed{self.seed}"

    @property
    def place(self) -> str:
        """Its folder below the folder of runs."""
        return f"{self.manifest.name}/{self.name}"

    def product(self, runs: Path) -> Path:
        """The file that other tasks take from its folder."""
        folder = RunFolder(runs / self.place)
        if self.notebook == SUPERVISOR:
            return folder.supervisor()
        return folder.pseudo(make_config(self.preset, **self.changes).pseudo, self.seed)

    def plan(self, runs: Path, notebooks: Path = NOTEBOOKS) -> Plan:
        """Check the task, once those it needs are through.

        Raises: what `plan_run` raises.
        """
        products = {name: str(task.product(runs).resolve()) for name, task in self.needs.items()}
        return plan_run(
            file_of(self.manifest),
            data=self.data,
            preset=self.preset,
            seed=self.seed,
            device=self.device,
            name=self.name,
            changes={**self.changes, **self.extra, **products},
            notebooks=notebooks,
            only=[self.notebook],
            runs=runs,
            campaign=True,
        )
