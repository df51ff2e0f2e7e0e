"""What a run is: all that decides it, checked before anything is written."""

from clippan_lib.errors import ManifestError
from clippan_lib.errors import DataError
import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clippan_lib.data import Dataset, Manifest, load_manifest, open_dataset
from clippan_lib.runs.devices import find_device
from clippan_lib.errors import Refusal
from clippan_lib.runs.settings import notebook_parameters, split_assignments
from clippan_lib.training.config import RunConfig, make_config
from clippan_lib.training.loop import digest

NEEDED = tuple((split, resolution) for split in ("train", "test") for resolution in ("full", "reduced"))
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@dataclass(frozen=True)
class Plan:
    """All that decides a run; made and checked by `plan_run`."""

    manifest: Manifest
    config: RunConfig
    preset: str
    seed: int
    device: str
    folder: Path
    notebooks: tuple[Path, ...]
    parameters: dict[str, dict[str, Any]]


def plan_run(
    manifest: str | Path,
    *,
    data: Path | None = None,
    preset: str = "demo",
    network: str | None = None,
    seed: int = 0,
    device: str = "auto",
    name: str | None = None,
    assignments: Iterable[str] = (),
    notebooks: Path = NOTEBOOKS,
    only: Collection[str] | None = None,
    runs: Path = Path("runs"),
) -> Plan:
    """Check everything that can be checked before a run; write nothing.

    Args:
        manifest: the dataset's manifest file.
        data: folder of the data, if not the manifest's own.
        preset: "smoke", "demo" or "paper".
        network: the fusion network, if not the preset's; with a warm start also the pseudo-supervisor.
        seed: of all randomness.
        device: "cpu", "cuda" or "auto", which takes a GPU if there is one.
        name: of the run's folder; made of preset, network and seed (and a digest of `assignments`) if None.
        assignments: texts `name=value`, for fields of `RunConfig` and for parameters of single notebooks.
        notebooks: folder of the notebooks, run in the order of their numbers.
        only: the names (without .ipynb) of those to run; all if None.
        runs: where runs are kept.
    Raises: Refusal, ManifestError, DataError or another ValueError that says what is wrong.
    """
    dataset = load_manifest(manifest)
    _refuse_incomplete(open_dataset(dataset, data))
    found = _find_notebooks(notebooks, only)
    defaults = {path.stem: notebook_parameters(path) for path in found}
    overrides, extra = split_assignments(assignments, RunConfig.model_fields, defaults)
    if network is not None and overrides.setdefault("network", network) != network:
        raise Refusal(f"--network {network} and -p network={overrides['network']} contradict each other")
    if network is not None and overrides.get("warm_start", make_config(preset).warm_start):
        # The start of Stage II is the pseudo-supervisor's, so it has to be the same network
        overrides.setdefault("pseudo", network)
    if seed < 0:
        raise Refusal(f"--seed {seed}: a seed is 0 or more")
    config = make_config(preset, **overrides)
    for field in {"pseudo", "clip_model", "clip_weights"} & overrides.keys():
        overrides[field] = getattr(
            config, field
        )  # a file's whole path, as the notebooks run in another folder
    name = name or _name(preset, config, seed, overrides | extra)
    if Path(name).name != name or name.startswith("."):
        raise Refusal(f"--name {name!r} is not the name of a folder")
    folder = (runs / dataset.name / name).resolve()
    shared = {
        "manifest": str(Path(manifest).resolve()),
        "data_root": str(Path(data).resolve()) if data else "",
        "run_dir": str(folder),
        "preset": preset,
        "seed": seed,
        "device": find_device(device),
        "overrides": overrides,
    } | extra
    parameters = {
        stem: {key: shared[key] for key in known if key in shared} for stem, known in defaults.items()
    }
    return Plan(dataset, config, preset, seed, shared["device"], folder, found, parameters)


def _find_notebooks(folder: Path, only: Collection[str] | None) -> tuple[Path, ...]:
    found = {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    missing = [name for name in only or () if name not in found]
    if missing or not found:
        which = " and no ".join(missing) or "notebook"
        raise Refusal(f"no {which} in {folder}: clone the repository and `pip install -e .` there")
    return tuple(path for name, path in found.items() if only is None or name in only)


def _refuse_incomplete(dataset: Dataset) -> None:
    """The notebooks train and judge at both resolutions; PanCollection, say, has no full-resolution training data."""
    missing = [pair for pair in NEEDED if pair not in dataset.available]
    if missing:
        lacking, there = (
            ", ".join(" ".join(pair) for pair in pairs) for pairs in (missing, dataset.available)
        )
        raise Refusal(
            f"{dataset.name}: the notebooks need {lacking}, and it has only {there}; "
            "use the library on what is there (`Dataset.patches`, `train_pseudo`), or another dataset"
        )


def _name(preset: str, config: RunConfig, seed: int, changes: dict[str, Any]) -> str:
    """Other settings get another folder, so that a trial never replaces a finished run."""
    changes = {
        key: value
        for key, value in changes.items()
        if key != "network" and (key, value) != ("pseudo", config.network)
    }
    if given := config.trained_pseudo():
        changes["pseudo"] = digest(given.network.state_dict())
    mark = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:6]
    return f"{preset}_{config.network}_seed{seed}" + (f"_{mark}" if changes else "")
