"""The paper's five tables as grids of runs: which rows a table has, and what must be run for them.

A run is a `Task`: one notebook of notebooks/campaign/ with its parameters. Its folder is named after all that decides
its result, so tables that need the same Stage I, pseudo-supervisor or network share one run.
"""

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clippan_lib import fusion
from clippan_lib.campaign.rows import COMPARED, ROWS, TITLES, Row
from clippan_lib.campaign.task import CLASSICAL, EXPERIMENT, PSEUDO, SUPERVISOR, Task, fields_of, file_of
from clippan_lib.data import Manifest, load_manifest
from clippan_lib.errors import Refusal
from clippan_lib.fusion import NETWORKS
from clippan_lib.runs.devices import find_device
from clippan_lib.runs.limits import refuse_name, refuse_seed
from clippan_lib.runs.parameters import sort_changes
from clippan_lib.training.config import RunConfig, make_config

_QNR = 0.1  # of Table 2, which is about that loss, where the preset leaves it out
# The scenes of Table 1
_DELIVERED = {"scale": "full", "patches_from": "train", "truth": "delivered"}


@dataclass(frozen=True)
class Entry:
    """A number to be: what a row of a table has for one dataset, seed and way of judging, of `record.SHOWN`."""

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
        config: configuration of the runs, before a row changes it.
        preset, seeds, device: preset, seeds and device of all runs.
        changes: fields of `RunConfig` that the user set.
        data: folder of the data files; None for each manifest's own.
        folder: runs/campaigns/<name>.
        runs: the folder of all runs.
        remarks: which areas have no scores, and why.
    """

    table: int
    entries: tuple[Entry, ...]
    config: RunConfig
    preset: str
    seeds: tuple[int, ...]
    device: str
    changes: Mapping[str, Any]
    data: Path | None
    folder: Path
    runs: Path
    remarks: tuple[str, ...] = ()

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
        files = [file_of(manifest) for manifest in self.manifests]
        words += [f"{file.parent.name}/{file.name}" for file in files]
        words += ["--seeds", *map(str, self.seeds), "--preset", self.preset]
        words += ["--data", "DIR"] if self.data else []
        texts = (f"{name}={json.dumps(value)}" for name, value in self.changes.items())
        return shlex.join(words) + "".join(f" -p {shlex.quote(text)}" for text in texts)

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
    changes: Mapping[str, Any] | None = None,
    runs: Path = Path("runs"),
) -> Campaign:
    """All runs of a table of the paper; writes nothing.

    Table 1 trains every network of `RunConfig.compared`: with ground truth at reduced resolution, judged there, and
    without at full resolution, judged there. Tables 2 to 5 train `RunConfig.network` without ground truth, one scale
    down unless `changes` sets another scale, and judge it there by the truth that no training saw: the paper prints
    scores at reduced resolution, and its release trains there, too. At scale="full" they are trained as delivered and
    judged at reduced and at full resolution. A seed stands for everything random: Stage I, the pseudo-supervisor,
    Stage II.

    Args:
        table: 1 to 5.
        manifests: one or more manifest files.
        seeds: one or more.
        data: folder of the data files, if not each manifest's own.
        preset: "smoke", "demo" or "paper".
        device: "cpu", "cuda" or "auto".
        name: name of the campaign's folder; made of table, preset, datasets and changes if None.
        changes: values of fields of `RunConfig`.
        runs: where runs are kept.
    Raises: Refusal or another ValueError for what does not fit, ManifestError, DataError.
    """
    if name is not None:
        refuse_name(name)
    if table not in TITLES:
        raise Refusal(f"table {table!r}: the paper has the tables {', '.join(map(str, TITLES))}")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise Refusal(f"--seeds {list(seeds)}: give one or more different numbers, 0 or more each")
    for seed in seeds:
        refuse_seed(seed)
    overrides, _ = sort_changes(changes or {}, RunConfig.model_fields, {})
    if "n_seeds" in overrides:
        raise Refusal("n_seeds: a table repeats whole runs; use --seeds")
    given = overrides
    usual: dict[str, Any] = {"truth": "delivered"} if table == 1 else {"scale": "reduced"}
    if table == 2 and not make_config(preset).w_qnr:
        usual["w_qnr"] = _QNR
    overrides = usual | given
    config = make_config(preset, **overrides)
    other = [name for name, usual in _DELIVERED.items() if getattr(config, name) != usual]
    if table == 1 and other:
        raise Refusal(
            f"{', '.join(f'{name}={getattr(config, name)!r}' for name in other)}: Table 1 trains, judges and draws "
            "scenes as delivered, at both resolutions; leave it out, or choose a table from 2 to 5"
        )
    datasets = [load_manifest(path) for path in manifests]
    names = [dataset.name for dataset in datasets]
    if not names or len(set(names)) < len(names):
        raise Refusal(f"datasets {names}: give one or more, each once")
    device = find_device(device)
    data = data and data.resolve()
    grids = [_Grid(dataset, data, preset, overrides, device) for dataset in datasets]
    # a dataset that is not there is refused now, not in an hour
    plans = [grid.supervisor(Row(""), seeds[0]).plan(runs) for grid in grids]
    entries = [entry for grid in grids for entry in grid.entries(table, seeds)]
    mark = hashlib.sha256(json.dumps([overrides, list(seeds)], sort_keys=True).encode()).hexdigest()[:6]
    name = name or f"table{table}_{preset}_{'_'.join(names)}_{mark}"
    refuse_name(name)  # of many datasets it is too long
    folder = (runs / "campaigns" / name).resolve()
    return Campaign(
        table,
        tuple(entries),
        config,
        preset,
        tuple(seeds),
        device,
        given,
        data,
        folder,
        runs.resolve(),
        tuple(remark for plan in plans for remark in plan.remarks),
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
        for row in ROWS[table]:
            for seed in seeds:
                task = self.experiment(row, seed, "full")
                for judged in ("lowered",) if self.overrides["scale"] == "reduced" else ("reduced", "full"):
                    yield Entry(self.manifest.name, row.label, row.baseline, seed, judged, task)

    def _methods(self, seeds: Sequence[int]) -> Iterator[Entry]:
        classical = self._task(CLASSICAL, {}, 0, {"names": list(COMPARED)})
        config = make_config(self.preset, **self.overrides)
        rows = [Row(fusion.CLASSICAL[name].title) for name in COMPARED]
        for name in config.compared:
            one = config.with_network(name)
            changes = {"network": one.network, "pseudo": one.pseudo}
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
            for name in fields_of(notebook)
            if name not in (needs or {}) and getattr(config, name) != getattr(preset, name)
        }
        given = (self.manifest, self.data, self.preset, seed, self.device)
        return Task(notebook, *given, differing, extra or {}, needs or {})
