"""Training on the very scene that is to be sharpened: its manifest, and a plan of the notebooks for it."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import yaml
from pydantic import ValidationError

from clippan_lib.data import Dataset, Manifest, open_dataset
from clippan_lib.data.pair.grid import STILL, Shift
from clippan_lib.data.pair.inputs import located
from clippan_lib.data.pair.names import Image, Images, Location, Named, parts_of
from clippan_lib.data.pair.scene import Opening
from clippan_lib.data.pair.sources import files_read, states_read
from clippan_lib.errors import DataError, ManifestError, Refusal
from clippan_lib.files import write_text
from clippan_lib.fusion.registry import BANDWISE
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.runs.plan import NOTEBOOKS, Plan, plan_run
from clippan_lib.runs.settings import patch_of
from clippan_lib.sensors import SENSORS, Sensor
from clippan_lib.sharpening.optics import refuse_other_kind
from clippan_lib.training.config import RunConfig, make_config

CHAPTERS = ("01_data_preparation", "02_stage1_adaptation", "04_stage2_training", "05_zooms_and_errors")
SPLIT = {"train": 0.6, "val": 0.2, "test": 0.2}
SMALL = {"train": 0.4, "val": 0.3, "test": 0.3}  # of scenes too small for that
# Stage II that begins with the band-wise network of the package, which has little left to learn: docs/recipe.md
FROM_BANDWISE = {"stage2_iterations": 6, "stage2_lr": 1e-4}


def plan_adaptation(
    ms: Images,
    pan: Image,
    out: str | Path,
    *,
    sensor: Sensor | None = None,
    preset: str = "demo",
    seed: int = 0,
    device: str = "auto",
    start: Path | None = None,
    runs: Path = Path("runs"),
    notebooks: Path = NOTEBOOKS,
    shift: Shift = STILL,
    **opening: Unpack[Opening],
) -> Plan:
    """Plan the training of Stage II on a scene, without ground truth; Stage I and a report belong to it.

    What can be checked is checked first; then the scene's manifest is written, as runs/NAME/scene.yaml. NAME comes
    from `out`, from the manifest's content and from the state of all files that are read: others get another folder.

    Args:
        ms, pan, opening: as for `open_pair`.
        out: what will be written in the end; its folder must be there.
        sensor: sensor of the scene; may be left out with `start`, whose network has its own, with the gains that it was
            trained with.
        preset, seed, device, runs, notebooks: as for `plan_run`.
        shift: rows and columns, PAN px, by which MS is moved first, from `registration.place`.
        start: a file of a trained network, with which Stage II begins; without it that is the band-wise network of the
            package, or at preset "paper" what the preset says.
    Returns: the plan, for `runner.execute`; `find_network` then knows the network in its folder.
    Raises: Refusal, DataError, ManifestError or another ValueError that says what is wrong.
    """
    out = Path(out).resolve()
    if not out.parent.is_dir():
        raise Refusal(f"{out.parent}: no such folder; make it, or name an output in another")
    trained = TrainedNetwork.load(start) if start else None
    if trained and start:
        refuse_other_kind(sensor, trained.sensor, start)
        sensor = sensor or trained.sensor
    if sensor is None:
        raise Refusal("adapting needs the scene's sensor: give --sensor, or a run to begin with as --method")
    files = [located(image) for image in (ms, pan)]
    made = partial(scene_manifest, files, out, sensor, opening, shift, trained.max_value if trained else None)
    changes = dict[str, Any](n_seeds=1)
    manifest, root = made()
    if not _refuse_unfit(manifest, root, make_config(preset)):
        smaller, _ = made(SMALL)
        if _halved(open_dataset(smaller, root)):
            manifest = smaller
        else:
            changes["truth"] = "delivered"
    network = trained.name if trained else None
    if start:
        changes |= {"pseudo": str(start.resolve()), "warm_start": True}
    elif preset != "paper":
        network, changes = BANDWISE, changes | FROM_BANDWISE
    scene = runs / manifest.name / "scene.yaml"
    _write(manifest, scene)
    return plan_run(
        scene,
        data=root,
        preset=preset,
        network=network,
        seed=seed,
        device=device,
        changes=changes,
        notebooks=notebooks,
        only=CHAPTERS,
        runs=runs,
    )


def scene_manifest(
    files: Sequence[Location],
    out: Path,
    sensor: Sensor,
    opening: Opening,
    shift: Shift,
    max_value: float | None,
    split: Mapping[str, float] = SPLIT,
) -> tuple[Manifest, Path]:
    """Two files as a data set, and the folder that its paths are relative to.

    Args:
        files: MS and PAN, from `inputs.located`.
        out: gives its name.
        sensor, opening, shift: as for `open_pair`.
        max_value: what digital numbers are divided by; None is the sensor's largest.
        split: shares of the scene.
    Raises: ManifestError where the two make no data set, DataError where one cannot be read.
    """
    named = [part for file in files if isinstance(file, Named) for part in file.parts]
    if lone := [part for part in named if not os.path.isfile(part)]:
        raise DataError(
            f"{lone[0]}: training on a scene needs files, which a manifest can name; correct the path, unpack the "
            "file, or write it as a GeoTIFF (gdal_translate)"
        )
    paths = [[Path(part).resolve() for part in parts_of(file)] for file in files]
    every = [path for of in paths for path in of]
    # a manifest's data lie in its folder, and so does all that GDAL reads with them, such as what a VRT refers to
    read = (name for file in files for name in files_read(file) if os.path.isfile(name))
    root = Path(
        os.path.commonpath([path.parent for path in every] + [Path(name).resolve().parent for name in read])
    )
    names = [tuple(path.relative_to(root).as_posix() for path in of) for of in paths]
    ms, pan = (of[0] if len(of) == 1 else of for of in names)
    bands = opening.get("bands")
    content: dict[str, Any] = {
        "name": re.sub("[^a-z0-9]+", "_", out.stem.lower()).strip("_") or "scene",
        "title": f"{', '.join(names[0])} and {names[1][0]}, for {out.name}",
        "sensor": sensor.name if SENSORS.get(sensor.name) == sensor else sensor,
        "source": {
            "kind": "geotiff",
            "ms": ms,
            "pan": pan,
            **opening,
            "bands": bands and tuple(bands),
            "shift": shift,
        },
        "split": dict(split),
        "max_value": max_value,
        "licence": "that of the files",
        "citation": "none",
        "homepage": "none",
        "how_to_get": f"In {root}: {'; '.join(map(_told, every))}.",
    }
    try:
        manifest = Manifest(**content)
    except ValidationError as error:
        found = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
        raise ManifestError(f"{files[0]} and {files[1]} make no data set: {found}") from None
    state = json.dumps([manifest.digest(), states_read(files)], sort_keys=True)
    mark = hashlib.sha256(state.encode()).hexdigest()[:6]
    return manifest.model_copy(update={"name": f"{manifest.name}_{mark}"}), root


def _told(file: Path) -> str:
    try:
        found = file.stat()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); correct the path") from error
    return f"{file.name}, {found.st_size} bytes of {datetime.fromtimestamp(found.st_mtime, UTC).isoformat()}"


def _halved(dataset: Dataset) -> bool:
    """Whether every split holds an area for a truth that is made sharp: the scene is halved before it is degraded."""
    return not dataset.too_small(sharp=True)


def _refuse_unfit(manifest: Manifest, root: Path, config: RunConfig) -> bool:
    """Look at every pixel now: an hour of training should not end at a value in the test area.

    Returns: `_halved`.
    """
    try:
        dataset = open_dataset(manifest, root)
        for split, resolution in dataset.available:
            dataset.patches(split, resolution, patch_of(config, dataset, split, resolution))
        dataset.unscored()
        return _halved(dataset)
    except DataError as error:
        raise DataError(
            f"{error}\nFor other splits, patches or largest values write a manifest (data_manifests/own_scene.yaml), "
            "run it by `clippan run`, and give the run as --method without --adapt"
        ) from error


def _write(manifest: Manifest, scene: Path) -> None:
    content = manifest.model_dump(mode="json", exclude_defaults=True)
    try:
        scene.parent.mkdir(parents=True, exist_ok=True)
        write_text(scene, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise Refusal(
            f"{scene}: cannot be written ({error.strerror}); run the command where runs/ can be made"
        ) from error
