"""The paper's five tables as grids of runs: which rows a table has, and what must be run for them.

A run is a `Task`: one notebook of notebooks/campaign/ with its parameters. Its folder is named after all that decides
its result, so tables that need the same Stage I, pseudo-supervisor or network share one run.
"""

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from clippan_lib.data import Manifest, load_manifest
from clippan_lib.errors import Refusal
from clippan_lib.evaluation.scores import classical_title
from clippan_lib.fusion import NETWORKS
from clippan_lib.runs.devices import find_device
from clippan_lib.runs.plan import Plan, plan_run
from clippan_lib.runs.settings import split_assignments
from clippan_lib.training.config import STAGES, RunConfig, make_config

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks" / "campaign"
SUPERVISOR, PSEUDO, EXPERIMENT, CLASSICAL = (
    "01_supervisor",
    "02_pseudo_supervisor",
    "03_experiment",
    "04_classical",
)
TITLES = {
    1: "Networks without and with CLIPPan",
    2: "Losses of Stage II",
    3: "Losses of Stage I",
    4: "Stems: how CLIP sees the bands",
    5: "Texts that describe the HRMS image",
}
# The classical methods of the paper's Table 1
COMPARED = ("sr_d", "mtf_glp_hpm_r")
WITHOUT = "without language"

_CLIP = ("clip_model", "clip_weights", "prompts", "stem", "adapters")
_CLIP += ("reduction", "image_residual", "text_residual")
_PSEUDO = ("network", "pseudo", "pseudo_iterations", "pseudo_batch", "pseudo_lr", "schedule", "clip_norm")
# Which fields of the configuration each notebook depends on
FIELDS = {
    SUPERVISOR: (*_CLIP, *STAGES["stage1"], "patch", "stride_full", "checkpoint_every"),
    PSEUDO: (*_PSEUDO, "w_gt", "patch", "stride_reduced", "checkpoint_every"),
    EXPERIMENT: (
        *dict.fromkeys(STAGES["supervised"] + STAGES["unsupervised"]),
        "patch",
        "stride_full",
        "stride_reduced",
        "checkpoint_every",
    ),
    CLASSICAL: (),
}


@dataclass(frozen=True)
class Task:
    """One run of one notebook.

    Args:
        notebook: its name, a key of `FIELDS`.
        manifest: of the dataset.
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

    @property
    def product(self) -> str:
        """The file that other tasks take from its folder."""
        if self.notebook == SUPERVISOR:
            return "stage1/supervisor.safetensors"
        config = make_config(self.preset, **self.changes)
        return f"networks/reduced/{config.pseudo}-pseudo-{self.seed}.safetensors"

    def plan(self, runs: Path, notebooks: Path = NOTEBOOKS) -> Plan:
        """Check the task, once those it needs are through.

        Raises: what `plan_run` raises.
        """
        products = {name: runs / task.place / task.product for name, task in self.needs.items()}
        given = {**self.changes, **self.extra} | {
            name: str(path.resolve()) for name, path in products.items()
        }
        return plan_run(
            self.manifest.file,
            data=self.data,
            preset=self.preset,
            seed=self.seed,
            device=self.device,
            name=self.name,
            assignments=[f"{name}={json.dumps(value)}" for name, value in given.items()],
            notebooks=notebooks,
            only=[self.notebook],
            runs=runs,
        )


@dataclass(frozen=True)
class Row:
    """A row of a table: how a network is trained.

    Args:
        label: as the table prints it.
        changes: fields of `RunConfig`; the clip_weights "random" stand for random ones of the run's seed.
        language: with the language term or without.
        shuffle: with the texts of Stage I given to the wrong image types, a control.
        baseline: label of the row it is compared with, seed by seed.
    """

    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    language: bool = True
    shuffle: bool = False
    baseline: str = ""


_CONTROLS = (
    Row(WITHOUT, language=False),
    Row("random CLIP", {"clip_weights": "random"}, baseline=WITHOUT),
    Row("shuffled prompts", shuffle=True, baseline=WITHOUT),
)
_UNTUNED = {"stage1_iterations": 0, "image_residual": 0.0, "text_residual": 0.0}
_ROWS = {
    2: (
        Row("L_spec + L_spat", {"w_qnr": 0.0, "w_pseudo": 0.0}, language=False),
        Row("L_QNR", {"w_spec": 0.0, "w_spat": 0.0, "w_pseudo": 0.0}, language=False),
        Row("L_unsup", {"w_pseudo": 0.0}, language=False),
        Row("L_unsup + L_ship", language=False),
        Row("L_unsup + L_d", {"w_pseudo": 0.0}, baseline="L_unsup"),
        Row("L_unsup + L_ship + L_d", baseline="L_unsup + L_ship"),
        Row("random CLIP", {"clip_weights": "random"}, baseline="L_unsup + L_ship"),
        Row("shuffled prompts", shuffle=True, baseline="L_unsup + L_ship"),
    ),
    3: (
        *_CONTROLS,
        Row("w/o fine-tuning", _UNTUNED, baseline=WITHOUT),
        Row("L_intra", {"w_inter": 0.0, "w_fusion": 0.0}, baseline=WITHOUT),
        Row("L_intra + L_inter", {"w_fusion": 0.0}, baseline=WITHOUT),
        Row("L_intra + L_inter + L_1", baseline=WITHOUT),
    ),
    4: (
        *_CONTROLS,
        *(Row(label, {"stem": label.lower()}, baseline=WITHOUT) for label in ("PCA", "RGB", "GBNIR", "Conv")),
    ),
    5: (
        *_CONTROLS,
        *(
            Row(label, {"prompts": prompts}, baseline=WITHOUT)
            for label, prompts in {
                "Noise": "noise",
                "I": "i",
                "II": "ii",
                "Khan's": "khan",
                "Wald's": "wald",
            }.items()
        ),
    ),
}


@dataclass(frozen=True)
class Entry:
    """A number to be: what a row of a table has for one dataset, seed and resolution of the test scenes."""

    dataset: str
    row: str
    baseline: str
    seed: int
    judged: str
    task: Task


@dataclass(frozen=True)
class Campaign:
    """Made by `plan_campaign`.

    Args:
        table: 1 to 5, of the paper.
        entries: in the order of the table.
        config: of the runs, before a row changes it.
        preset, seeds, device: of all runs.
        assignments: what the user changed.
        data: folder of the data files; None for each manifest's own.
        folder: runs/campaigns/<name>.
        runs: the folder of all runs.
    """

    table: int
    entries: tuple[Entry, ...]
    config: RunConfig
    preset: str
    seeds: tuple[int, ...]
    device: str
    assignments: tuple[str, ...]
    data: Path | None
    folder: Path
    runs: Path

    @property
    def tasks(self) -> list[Task]:
        """Each once, those that others need before them."""
        found: dict[str, Task] = {}
        for entry in self.entries:
            for task in _with_needs(entry.task):
                found.setdefault(task.place, task)
        return list(found.values())

    @property
    def command(self) -> str:
        """That makes it, from the repository's root; DIR stands for the folder of the data."""
        words = ["clippan", "table", str(self.table)]
        words += [f"{manifest.file.parent.name}/{manifest.file.name}" for manifest in self.manifests]
        words += ["--seeds", *map(str, self.seeds), "--preset", self.preset]
        words += ["--data", "DIR"] if self.data else []
        return shlex.join(words) + "".join(f" -p {shlex.quote(text)}" for text in self.assignments)

    @property
    def manifests(self) -> list[Manifest]:
        """Of the datasets, each once."""
        return list({entry.dataset: entry.task.manifest for entry in self.entries}.values())


def plan_campaign(
    table: int,
    manifests: Sequence[str | Path],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    data: Path | None = None,
    preset: str = "demo",
    device: str = "auto",
    name: str | None = None,
    assignments: Iterable[str] = (),
    runs: Path = Path("runs"),
) -> Campaign:
    """All runs of a table of the paper; writes nothing.

    Table 1 trains every network of `RunConfig.compared`: with ground truth at reduced resolution, judged there, and
    without at full resolution, judged there. Tables 2 to 5 train `RunConfig.network` without ground truth at full
    resolution and judge it at both: the paper prints scores at reduced resolution, and does not say where it trained.
    A seed stands for everything random: Stage I, the pseudo-supervisor, Stage II.

    Args:
        table: 1 to 5.
        manifests: one or more manifest files.
        seeds: one or more.
        data: folder of the data files, if not each manifest's own.
        preset: "smoke", "demo" or "paper".
        device: "cpu", "cuda" or "auto".
        name: of the campaign's folder; made of table, preset, datasets and changes if None.
        assignments: texts `name=value` for fields of `RunConfig`.
        runs: where runs are kept.
    Raises: Refusal or another ValueError for what does not fit, ManifestError, DataError.
    """
    if table not in TITLES:
        raise Refusal(f"table {table!r}: the paper has the tables {', '.join(map(str, TITLES))}")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise Refusal(f"--seeds {list(seeds)}: give one or more different numbers, 0 or more each")
    assignments = tuple(assignments)
    overrides, _ = split_assignments(assignments, RunConfig.model_fields, {})
    if fixed := {"n_seeds"} & overrides.keys():
        raise Refusal(f"-p {fixed.pop()}: a table repeats whole runs; use --seeds")
    if "network" in overrides and overrides.get("warm_start", make_config(preset).warm_start):
        # The start of Stage II is the pseudo-supervisor's, so it has to be the same network
        overrides.setdefault("pseudo", overrides["network"])
    config = make_config(preset, **overrides)
    datasets = [load_manifest(path) for path in manifests]
    names = [dataset.name for dataset in datasets]
    if not names or len(set(names)) < len(names):
        raise Refusal(f"datasets {names}: give one or more, each once")
    device = find_device(device)
    data = data and data.resolve()
    grids = [_Grid(dataset, data, preset, overrides, device) for dataset in datasets]
    for grid in grids:  # a dataset that is not there is refused now, not in an hour
        grid.supervisor(Row(""), seeds[0]).plan(runs)
    entries = [entry for grid in grids for entry in grid.entries(table, seeds)]
    mark = hashlib.sha256(json.dumps([overrides, list(seeds)], sort_keys=True).encode()).hexdigest()[:6]
    name = name or f"table{table}_{preset}_{'_'.join(names)}_{mark}"
    if Path(name).name != name or name.startswith("."):
        raise Refusal(f"--name {name!r} is not the name of a folder")
    folder = (runs / "campaigns" / name).resolve()
    return Campaign(
        table,
        tuple(entries),
        config,
        preset,
        tuple(seeds),
        device,
        assignments,
        data,
        folder,
        runs.resolve(),
    )


def _with_needs(task: Task) -> Iterator[Task]:
    for needed in task.needs.values():
        yield from _with_needs(needed)
    yield task


@dataclass(frozen=True)
class _Grid:
    """The tasks of one dataset."""

    manifest: Manifest
    data: Path | None
    preset: str
    overrides: Mapping[str, Any]
    device: str

    def entries(self, table: int, seeds: Sequence[int]) -> Iterator[Entry]:
        if table == 1:
            yield from self._methods(seeds)
            return
        for row in _ROWS[table]:
            for seed in seeds:
                task = self.experiment(row, seed, "full")
                for judged in ("reduced", "full"):
                    yield Entry(self.manifest.name, row.label, row.baseline, seed, judged, task)

    def _methods(self, seeds: Sequence[int]) -> Iterator[Entry]:
        classical = self._task(CLASSICAL, {}, 0, {"names": list(COMPARED)})
        config = make_config(self.preset, **self.overrides)
        rows = [Row(classical_title(name)) for name in COMPARED]
        for name in config.compared:
            changes = {"network": name} | ({"pseudo": name} if config.warm_start else {})
            rows += [Row(name, changes, language=False), Row(f"{name}-C", changes, baseline=name)]
        for row in rows:
            for seed in seeds:
                for judged in ("reduced", "full"):
                    task = self.experiment(row, seed, judged) if row.changes else classical
                    yield Entry(self.manifest.name, row.label, row.baseline, seed, judged, task)

    def experiment(self, row: Row, seed: int, resolution: str) -> Task:
        """Train a network as a row says, at a resolution."""
        config = make_config(self.preset, **self._changes(row, seed))
        needs = {"pseudo": self.pseudo(row, seed)} if config.pseudo in NETWORKS else {}
        extra = {"resolution": resolution} | ({"shuffle": True} if row.shuffle else {})
        if row.language:
            needs["supervisor"] = self.supervisor(row, seed)
        else:
            extra |= {"supervisor": ""}
        return self._task(EXPERIMENT, self._changes(row, seed), seed, extra, needs)

    def supervisor(self, row: Row, seed: int) -> Task:
        """Stage I as a row says."""
        return self._task(SUPERVISOR, self._changes(row, seed), seed)

    def pseudo(self, row: Row, seed: int) -> Task:
        """Train the pseudo-supervisor; which network will imitate it does not matter."""
        changes = self._changes(row, seed)
        pseudo = make_config(self.preset, **changes).pseudo
        return self._task(PSEUDO, changes | {"network": pseudo}, seed)

    def _changes(self, row: Row, seed: int) -> dict[str, Any]:
        changes = {**self.overrides, **row.changes}
        if changes.get("clip_weights") == "random":
            changes["clip_weights"] = f"random:{seed}"
        return changes

    def _task(
        self,
        notebook: str,
        changes: Mapping[str, Any],
        seed: int,
        extra: Mapping[str, Any] | None = None,
        needs: Mapping[str, Task] | None = None,
    ) -> Task:
        """A task that is given only what its notebook depends on, so that equal ones are one."""
        preset, config = make_config(self.preset), make_config(self.preset, **changes)
        differing = {
            name: getattr(config, name)
            for name in FIELDS[notebook]
            if name not in (needs or {}) and getattr(config, name) != getattr(preset, name)
        }
        given = (self.manifest, self.data, self.preset, seed, self.device)
        return Task(notebook, *given, differing, extra or {}, needs or {})
