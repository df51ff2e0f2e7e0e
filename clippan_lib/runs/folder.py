"""A run's folder: where everything in it lies, and with which settings it was made.

settings.json           with what everything here was made
stage1/                 adapted supervisors, their checkpoints, and embeddings that several trainings share
stage2/                 checkpoints of fusion networks
networks/RESOLUTION/    trained networks, each a file that needs nothing else
NN_*.ipynb, NN_*.html   the executed notebooks
figures/, tables/, metrics.json, metrics.csv, run.json, index.html
unfinished/             the same of a run that is not through yet: it takes their place when it is
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clippan_lib.errors import CheckpointError, MissingStage, Refusal
from clippan_lib.files import throw_away
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.runs.records import RunRecord, SettingsRecord, read_record, write_record
from clippan_lib.runs.settings import Settings, differences
from clippan_lib.training.config import RunConfig

SETTINGS, RECORD, PAGE = "settings.json", "run.json", "index.html"
_REMEDY = "delete it, and `clippan run` makes everything in the folder again, or give another run_dir"
_SUFFIX = ".safetensors"
_GUIDED = "-C"  # ends the name of a variant with the language term


@dataclass(frozen=True)
class RunFolder:
    """The one owner of the layout of runs/DATASET/NAME.

    Args:
        path: path of the folder, which need not be there yet.
    """

    path: Path

    def supervisor(self, name: str = "supervisor") -> Path:
        """An adapted supervisor; its name is "supervisor", or that of a control."""
        return self.path / "stage1" / f"{name}{_SUFFIX}"

    def supervisor_checkpoint(self, name: str) -> Path:
        return self.path / "stage1" / "training" / f"{name}{_SUFFIX}"

    @property
    def optics(self) -> Path:
        """Gains and shift that were measured, if they were."""
        return self.path / "optics.json"

    def network(self, resolution: str, variant: str, seed: int) -> Path:
        """A trained network."""
        return self.path / "networks" / resolution / f"{variant}-{seed}{_SUFFIX}"

    def pseudo(self, name: str, seed: int) -> Path:
        """The pseudo-supervisor, if it was trained here; it is a network of reduced resolution."""
        return self.network("reduced", f"{name}-pseudo", seed)

    @property
    def networks(self) -> list[Path]:
        """All trained networks."""
        return sorted((self.path / "networks").rglob(f"*{_SUFFIX}"))

    @property
    def pseudo_checkpoint(self) -> Path:
        return self.path / "stage2" / f"pseudo{_SUFFIX}"

    def network_checkpoint(self, resolution: str, variant: str, seed: int) -> Path:
        return self.path / "stage2" / resolution / f"{variant}-{seed}{_SUFFIX}"

    @property
    def checkpoints(self) -> dict[Path, str]:
        """The checkpoints of all trainings, and what each trained: "stage1/supervisor", "stage2/full/pnn-C-0"."""
        found = {}
        for pattern in (f"stage1/training/*{_SUFFIX}", f"stage2/**/*{_SUFFIX}"):
            for path in self.path.glob(pattern):
                # the name ends in the key of the settings
                name = path.relative_to(self.path).with_name(path.stem.rpartition("-")[0]).as_posix()
                found[path] = name.replace("/training/", "/")
        return found

    @property
    def features(self) -> Path:
        """Embeddings that trainings with the same supervisor share."""
        return self.path / "stage1" / "features"

    @property
    def unfinished(self) -> Path:
        """Where the results of a run go until it is through."""
        return self.path / "unfinished"

    @property
    def results(self) -> Path:
        """Where results go, and are looked for: notebooks, figures, tables and numbers."""
        return self.unfinished if self.unfinished.is_dir() else self.path

    @property
    def figures(self) -> Path:
        return self.results / "figures"

    @property
    def tables(self) -> Path:
        """Of LaTeX."""
        return self.results / "tables"

    @property
    def settings(self) -> dict[str, Any] | None:
        """The record of the settings it was made with, None in a folder that no run has used.

        Raises: Refusal if it is damaged.
        """
        return read_record(self.path / SETTINGS, SettingsRecord, _REMEDY)

    def read_record(self) -> dict[str, Any] | None:
        """What run.json says; None if it is not there, or damaged: then it is thrown away, to be written again.

        Raises: Refusal if it is damaged and cannot be removed.
        """
        path = self.path / RECORD
        try:
            return read_record(path, RunRecord, "it is thrown away, and written again")
        except Refusal as error:
            throw_away(path, error)
            return None

    @property
    def config(self) -> RunConfig:
        """The configuration it was made with.

        Raises: Refusal if that is none of this version's.
        """
        try:
            return RunConfig.model_validate_json(json.dumps((self.settings or {}).get("config")))
        except ValidationError as error:
            names = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
            # what a record names is never run
            plugin = ((self.settings or {}).get("config") or {}).get("plugin")
            own = f", or first load_plugin({plugin!r}), of its own methods, if you trust it" if plugin else ""
            raise Refusal(
                f"{self.path}: {SETTINGS} fits no configuration of this version ({names}); give another run_dir{own}"
            ) from error

    def write_settings(self, settings: Settings) -> None:
        """Say with what everything from now on is made."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_record(self.path / SETTINGS, settings.record)

    def is_of(self, settings: Settings) -> bool:
        """Whether what lies here was made with these settings, from these data."""
        mine = self.settings
        return mine is not None and not differences(mine, settings.record)

    def claim(self, settings: Settings) -> None:
        """Make the folder, or take up one that was made with the same settings.

        Raises: Refusal if it was made with others, naming what differs, or its record of them is damaged.
        """
        there = self.settings
        if there is None:
            mine = ("stage1", "stage2", "networks", RECORD)
            if any((self.path / name).exists() for name in mine):
                raise Refusal(
                    f"{self.path} holds a run of which {SETTINGS} does not say how it was made; "
                    "give another run_dir, or delete it"
                )
            self.write_settings(settings)
        elif found := differences(there, settings.record):
            raise Refusal(
                f"{self.path} was made with other settings: {'; '.join(found)}. Give another run_dir, the same "
                "settings, or run_dir='' for the newest run that has them"
            )

    def begin(self, belongs: Callable[[str], bool]) -> None:
        """Make `unfinished`, with those of the results so far that still hold; what the folder shows stays as it is.

        Args:
            belongs: of the name of a file whether it still holds.
        """
        shutil.rmtree(self._aside, ignore_errors=True)
        self._aside.mkdir(parents=True)
        for name, path in _results_in(self.results):
            if belongs(path.name):
                _copy(path, self._aside / name)
        shutil.rmtree(self.unfinished, ignore_errors=True)
        os.replace(self._aside, self.unfinished)

    def publish(self) -> None:
        """Put the results of a run that is through in the place of the old ones, the page last.

        Stopped on its way, it begins again: `unfinished` stays whole until all is in its place.
        """
        new = dict(_results_in(self.unfinished))
        for name, path in new.items():
            if path.name != PAGE:
                _copy(path, self.path / name)
        for name, path in _results_in(self.path):
            if name not in new:
                path.unlink()
        _copy(new[PAGE], self.path / PAGE)
        shutil.rmtree(self._aside, ignore_errors=True)
        os.replace(self.unfinished, self._aside)
        shutil.rmtree(self._aside)

    @property
    def _aside(self) -> Path:
        """What is not whole yet, or of no use any more."""
        return self.path / ".aside"


def _copy(source: Path, target: Path) -> None:
    """A copy that is whole or not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copy2(source, temporary)
    os.replace(temporary, target)


def _results_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files of results and their names in the folder."""
    for pattern in ("[0-9][0-9]_*.*", ".[0-9][0-9]_*.done.json", "figures/*.*", "tables/*.*", "metrics.*"):
        for path in sorted(folder.glob(pattern)):
            yield path.relative_to(folder).as_posix(), path
    for name in (RECORD, PAGE):
        if (folder / name).is_file():
            yield name, folder / name


def newest_run(runs: str | Path, wanted: Settings, given: Mapping[str, Any]) -> RunFolder | None:
    """The newest run of a dataset at a preset and a seed, whatever else its settings; damaged ones do not count.

    Args:
        runs: the folder of all runs.
        wanted: whose dataset, data, preset and seed count.
        given: fields of the configuration that have to be the same.
    """
    mine, found = wanted.record, []
    for path in (Path(runs) / wanted.dataset).glob(f"*/{SETTINGS}"):
        record = _settings_in(path.parent)
        if record is None:
            continue
        same = all(record[name] == mine[name] for name in ("manifest", "data", "preset", "seed"))
        same &= all(record["config"].get(name) == mine["config"][name] for name in given)
        if same and not record["campaign"]:
            found.append((path.stat().st_mtime_ns, path.parent))
    return RunFolder(max(found)[1]) if found else None


def _settings_in(folder: Path) -> dict[str, Any] | None:
    """As `RunFolder.settings`; None of a damaged record."""
    try:
        return RunFolder(folder).settings
    except Refusal:
        return None


def no_run(runs: str | Path, wanted: Settings, given: Mapping[str, Any]) -> MissingStage:
    """What to say where `newest_run` finds nothing: what there is instead, and what to do."""
    changes = "".join(f", {name} {getattr(wanted.config, name)!r}" for name in given)
    lines = []
    for path in sorted(Path(runs).glob(f"*/*/{SETTINGS}")):
        record = _settings_in(path.parent)
        if record is None:
            lines.append(f"\n  {path.parent}: its {SETTINGS} is damaged")
        elif not record["campaign"]:
            lines.append(f"\n  {path.parent}: preset {record['preset']}, seed {record['seed']}")
    return MissingStage(
        f"no run of {wanted.dataset} at preset {wanted.preset}, seed {wanted.seed}{changes}, from these data in "
        f"{runs}: run 01_data_preparation and 02_stage1_adaptation first, or `clippan run`, or give run_dir. "
        f"There is: {''.join(lines) or 'none'}"
    )


def find_network(run: str | Path) -> Path:
    """The file of the trained network that is meant by a run.

    Args:
        run: a run's folder, or such a file, which is given back.
    Returns: the network trained at full resolution with language (a variant named "...-C"), of the first seed; if
        several networks were compared, that of the run's own settings. The files say themselves what they hold:
        their names do not count.
    Raises: CheckpointError if there is no such path or no such network, or several, or a file of one is damaged;
        Refusal if the record of the settings would have to say which, and is damaged.
    """
    path = Path(run)
    if path.is_file():
        return path
    folder = RunFolder(path)
    if not folder.networks:
        raise CheckpointError(
            f"{path} is neither a file nor a run's folder with trained networks: give runs/DATASET/NAME, or a file "
            "of its folder networks/, which 04_stage2_training fills (also from checkpoints of an older version)"
        )
    guided: dict[str, dict[int, Path]] = {}
    for file in folder.networks:
        origin = TrainedNetwork.header(file).origin
        if origin.get("resolution") == "full" and origin.get("variant", "").endswith(_GUIDED):
            seed = origin.get("seed", "")
            if not seed.isdecimal():
                raise CheckpointError(
                    f"{file} was trained with the seed {seed!r}, which is none; give another"
                )
            guided.setdefault(origin["variant"], {}).setdefault(int(seed), file)
    seeds = next(iter(guided.values())) if len(guided) == 1 else guided.get(f"{_network_of(folder)}{_GUIDED}")
    if seeds is None:
        listed = "\n".join(map(str, folder.networks))
        raise CheckpointError(
            f"{path} has {len(guided)} networks trained at full resolution with language ({_GUIDED}), not one; "
            f"give a file:\n{listed}"
        )
    return seeds[min(seeds)]


def _network_of(folder: RunFolder) -> str:
    return str((folder.settings or {"config": {}})["config"].get("network", ""))
