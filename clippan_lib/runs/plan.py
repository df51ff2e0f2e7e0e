"""What a run is: all that decides it, checked before anything is written."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Any

from clippan_lib.clip.model import check_clip
from clippan_lib.data import Dataset, Manifest, load_manifest, open_dataset
from clippan_lib.data.pair.sources import States, states_read
from clippan_lib.data.stacks import RESOLUTIONS, Resolution
from clippan_lib.errors import ClipWeightsError, Refusal
from clippan_lib.fusion import NETWORKS
from clippan_lib.fusion.plugins import own_methods, try_out
from clippan_lib.runs.devices import find_device
from clippan_lib.runs.folder import RunFolder
from clippan_lib.runs.limits import refuse_name, refuse_seed
from clippan_lib.runs.parameters import notebook_parameters, sort_changes
from clippan_lib.runs.settings import (
    Settings,
    as_configured,
    default_name,
    patch_of,
    refuse_batches,
    refuse_unfit,
)
from clippan_lib.training.config import RunConfig, make_config

Needed = tuple[tuple[str, Resolution], ...]
NEEDED: Needed = tuple((split, resolution) for split in ("train", "test") for resolution in RESOLUTIONS)
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@dataclass(frozen=True)
class Plan:
    """All that decides a run; made and checked by `plan_run`.

    Args:
        manifest: manifest of the dataset.
        settings: that the folder is made with.
        device: where to compute.
        folder: folder of the run.
        notebooks: in their order.
        parameters: parameters of each notebook, by name.
        files: states of the files that parameters of notebooks name.
        remarks: which areas have no scores, and why.
        data: folder of the data, if not the manifest's own.
    """

    manifest: Manifest
    settings: Settings
    device: str
    folder: Path
    notebooks: tuple[Path, ...]
    parameters: dict[str, dict[str, Any]]
    files: States
    remarks: tuple[str, ...] = ()
    data: Path | None = None

    @property
    def config(self) -> RunConfig:
        """Every number."""
        return self.settings.config

    @property
    def preset(self) -> str:
        """What the configuration was made of."""
        return self.settings.preset

    @property
    def seed(self) -> int:
        """Of all randomness."""
        return self.settings.seed

    @property
    def place(self) -> RunFolder:
        """The layout of its folder."""
        return RunFolder(self.folder)


def plan_run(
    manifest: str | Path,
    *,
    data: Path | None = None,
    preset: str = "demo",
    network: str | None = None,
    plugin: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    name: str | None = None,
    changes: Mapping[str, Any] | None = None,
    notebooks: Path = NOTEBOOKS,
    only: Collection[str] | None = None,
    runs: Path = Path("runs"),
    campaign: bool = False,
) -> Plan:
    """Check everything that can be checked before a run; write nothing.

    Args:
        manifest: the dataset's manifest file.
        data: folder of the data, if not the manifest's own.
        preset: "smoke", "demo" or "paper".
        network: the fusion network, if not the preset's; with a warm start also the pseudo-supervisor.
        plugin: a file of own methods, which is run; its networks are compared with the preset's.
        seed: seed of all randomness.
        device: "cpu", "cuda" or "auto", which takes a GPU if there is one.
        name: name of the run's folder; made of preset, network and seed (and a digest of `changes`) if None.
        changes: values of fields of `RunConfig`, and of parameters of single notebooks.
        notebooks: folder of the notebooks, run in the order of their numbers.
        only: the names (without .ipynb) of those to run; all if None.
        runs: where runs are kept.
        campaign: whether the run is a part of a campaign.
    Raises: Refusal, ManifestError, DataError or another ValueError that says what is wrong.
    """
    if name is not None:
        refuse_name(name)
    loaded = load_manifest(manifest)
    dataset = open_dataset(loaded, data)
    found = _find_notebooks(notebooks, only)
    defaults = {path.stem: notebook_parameters(path) for path in found}
    overrides, extra = sort_changes(changes or {}, RunConfig.model_fields, defaults)
    if network is not None and overrides.setdefault("network", network) != network:
        raise Refusal(
            f"network {network} and network={overrides['network']} among the changes contradict each other"
        )
    refuse_seed(seed)
    if plugin is not None:
        overrides["plugin"] = str(plugin.resolve())
    config = make_config(preset, **overrides)
    own = own_methods(config.plugin)
    if "compared" not in overrides and (networks := [name for name in own if name in NETWORKS]):
        overrides["compared"] = [*config.compared, *networks]
        config = make_config(preset, **overrides)
    # what the optics are takes reading scenes, and a plan only looks whether all is there
    dataset = as_configured(dataset, config, None)
    needed = NEEDED
    if config.scale == "reduced" and config.patches_from == "judged":
        if not campaign:
            raise Refusal(
                "patches_from='judged': the notebooks of the course judge at reduced resolution too, by the truth that "
                "the pseudo-supervisor is then trained with; use `clippan table`, or set patches_from='train'"
            )
        needed = tuple(key for key in NEEDED if key != ("test", "reduced"))
    _refuse_incomplete(dataset, needed, config)
    refuse_unfit(config, dataset)
    refuse_batches(config, dataset, overrides)
    for split, resolution in needed:  # looks at every pixel where that tells which patches there are
        dataset.patches(split, resolution, patch_of(config, dataset, split, resolution))
    # after the size of a patch is known to be possible
    try_out(own, dataset.sensor.n_bands, dataset.ratio, config.patch)
    remarks = dataset.unscored()
    try:
        check_clip(config.clip_model, config.clip_weights)
    except ClipWeightsError as error:
        raise Refusal(str(error)) from error
    # files with their whole paths, as the notebooks run in another folder
    overrides = {field: getattr(config, field) for field in overrides}
    name = name or default_name(preset, config, seed, overrides | extra)
    folder = (runs / loaded.name / name).resolve()
    shared: dict[str, Any] = {
        "manifest": str(Path(manifest).resolve()),
        "data_root": str(Path(data).resolve()) if data else "",
        "run_dir": str(folder),
        "runs": str(runs.resolve()),
        "preset": preset,
        "seed": seed,
        "device": find_device(device),
        "overrides": overrides,
    } | extra
    parameters = {
        stem: {key: shared[key] for key in known if key in shared} for stem, known in defaults.items()
    }
    settings = Settings.of(dataset, preset, seed, config, campaign)
    files = states_read(value for value in extra.values() if isinstance(value, str) and isfile(value))
    return Plan(loaded, settings, shared["device"], folder, found, parameters, files, remarks, data)


def _find_notebooks(folder: Path, only: Collection[str] | None) -> tuple[Path, ...]:
    found = {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    missing = [name for name in only or () if name not in found]
    if missing or not found:
        which = " and no ".join(missing) or "notebook"
        raise Refusal(f"no {which} in {folder}: clone the repository and `pip install -e .` there")
    return tuple(path for name, path in found.items() if only is None or name in only)


def _refuse_incomplete(dataset: Dataset, needed: Needed, config: RunConfig) -> None:
    """The notebooks train and judge at both resolutions; PanCollection, say, has no full-resolution training data."""
    missing = [pair for pair in needed if pair not in dataset.available]
    if missing:
        lacking, there = (
            ", ".join(" ".join(pair) for pair in pairs) for pairs in (missing, dataset.available)
        )
        alone = config.scale == "reduced" and ("test", "full") in dataset.available
        remedy = (
            "train on the scenes that are judged (`clippan table` with -p patches_from=judged), "
            if alone
            else ""
        )
        raise Refusal(
            f"{dataset.name}: the notebooks need {lacking}, and it has only {there}; {remedy}"
            "use the library on what is there (`Dataset.patches`, `train_pseudo`), or another dataset"
        )
