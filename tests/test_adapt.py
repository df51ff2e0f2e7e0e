"""Training on one's own scene: what is planned, what is refused before, and what stands in the end."""

import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import rasterio
import torch
import torch.nn.functional as F
from rasters import grid, noise, save
from tiny import TinyPatches, same, state
from tiny_notebooks import FIRST, MANIFEST, write_notebook

from clippan_lib import cli
from clippan_lib.data import load_manifest, open_dataset
from clippan_lib.errors import CheckpointError, DataError, ManifestError, Refusal
from clippan_lib.fusion import build_network
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.runs.folder import RunFolder
from clippan_lib.runs.plan import plan_run
from clippan_lib.runs.results import load
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening.adapt import CHAPTERS, plan_adaptation
from clippan_lib.training.batches import PatchStore
from clippan_lib.training.config import make_config
from clippan_lib.training.pseudo import train_pseudo
from clippan_lib.training.stage2 import train_fusion

QB = get_sensor("QB")
MINE = replace(QB, name="mine", gnyq=(0.3, 0.3, 0.3, 0.2))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """The folder of the scene, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    return scene(tmp_path)


def scene(folder: Path, width: int = 352, **options) -> Path:
    """A pair just large enough: 64 LRMS px are left to the smallest split, 16 at reduced resolution."""
    lrms = noise(4, 64, width)
    seen = lrms.mean(0, keepdims=True).repeat(4, 1).repeat(4, 2)
    save(folder / "ms.tif", lrms, grid(4), **options)
    save(folder / "pan.tif", (seen + noise(1, 256, 4 * width) / 20).astype(lrms.dtype), grid())
    return folder


def network(
    path: Path, seed: int = 0, name: str = "pnn", sensor=QB, max_value: float = 1000.0, origin=None
) -> Path:
    trained = build_network(name, sensor.n_bands, sensor.ratio, seed)
    TrainedNetwork(trained, name, sensor, max_value, origin or {}).save(path)
    return path


def guided(run: Path) -> Path:
    """What a run leaves that trained with language."""
    return network(
        RunFolder(run).network("full", "pnn-C", 4),
        origin={"variant": "pnn-C", "resolution": "full", "seed": "4"},
    )


def plan(folder: Path, **changes):
    paths = {"ms": folder / "ms.tif", "pan": folder / "pan.tif", "out": folder / "fused.tif"}
    defaults = {"preset": "smoke", "device": "cpu", "runs": folder / "runs"}
    return plan_adaptation(**paths | defaults | ({} if "start" in changes else {"sensor": QB}) | changes)


def test_the_manifest_describes_the_scene_and_the_plan_is_the_notebooks_for_it(here):
    (here / "sub").mkdir()
    (here / "ms.tif").rename(here / "sub" / "ms.tif")
    found = plan(here, ms=here / "sub" / "ms.tif", out=here / "My Scene (2).tif", bands=[1, 2, 3, 4], seed=3)
    [file] = (here / "runs").rglob("scene.yaml")
    manifest = load_manifest(file)
    assert file.parent.name == manifest.name and manifest.name.startswith("my_scene_2_")
    assert manifest.digest() == found.manifest.digest()
    assert (manifest.sensor, manifest.max_value) == ("QB", None)
    assert (manifest.source.ms, manifest.source.pan) == ("sub/ms.tif", "pan.tif")
    assert manifest.source.bands == (1, 2, 3, 4)
    assert manifest.split.fractions == {"train": 0.6, "val": 0.2, "test": 0.2}
    assert open_dataset(manifest, found.parameters["01_data_preparation"]["data_root"]).n_bands == 4
    assert tuple(path.stem for path in found.notebooks) == CHAPTERS
    assert (found.config.n_seeds, found.seed, found.preset) == (1, 3, "smoke")
    assert found.folder.parent == file.parent


def test_some_bands_of_the_sensor_make_a_data_set_of_these(here):
    found = plan(here, bands=["Red", "green"])
    dataset = open_dataset(found.manifest, found.parameters["01_data_preparation"]["data_root"])
    assert dataset.sensor == QB.only(["red", "green"])


def test_a_sensor_that_the_table_lacks_is_described(here):
    assert plan(here, sensor=MINE).manifest.resolve_sensor() == MINE
    assert plan(here, sensor=replace(QB, gnyq_pan=0.2)).manifest.resolve_sensor().gnyq_pan == 0.2


def test_the_same_scene_has_the_same_folder_and_another_state_of_it_another(here):
    first = plan(here)
    assert plan(here).folder == first.folder
    assert plan(here, seed=1).folder.parent == first.folder.parent
    assert plan(here, sensor=MINE).folder.parent != first.folder.parent
    os.utime(here / "ms.tif", (0, 0))
    assert plan(here).folder.parent != first.folder.parent


@pytest.mark.parametrize("preset", ["smoke", "paper"])
def test_a_given_network_is_the_start_with_its_sensor_and_its_scale(here, preset):
    found = plan(here, start=network(here / "n.safetensors", sensor=MINE, name="pannet"), preset=preset)
    assert (found.config.network, found.config.warm_start) == ("pannet", True)
    assert found.config.pseudo == str(here / "n.safetensors")
    assert found.parameters["04_stage2_training"]["overrides"]["pseudo"] == str(here / "n.safetensors")
    assert (found.manifest.resolve_sensor(), found.manifest.max_value) == (MINE, 1000)


def test_a_start_that_was_trained_with_other_gains_is_taken_and_a_given_sensor_keeps_its_own(here):
    start = network(here / "n.safetensors", sensor=replace(QB, gnyq=(0.4, 0.5, 0.4, 0.5)))
    assert plan(here, start=start).manifest.resolve_sensor().gnyq == (0.4, 0.5, 0.4, 0.5)
    assert plan(here, start=start, sensor=QB).manifest.resolve_sensor() == QB


def test_the_weights_of_the_start_decide_the_folder_and_its_path_does_not(here):
    first = plan(here, start=network(here / "n.safetensors"))
    shutil.copy(here / "n.safetensors", here / "copy.safetensors")
    assert plan(here, start=here / "copy.safetensors").folder == first.folder
    assert plan(here, start=network(here / "n.safetensors", seed=1)).folder != first.folder
    assert plan(here).folder != first.folder


def refused(kind, message: str, here: Path, **changes) -> None:
    with pytest.raises(kind, match=message):
        plan(here, **changes)
    assert not (here / "runs").exists()


def test_what_cannot_be_adapted_is_refused_before_anything_is_written(here):
    file = network(here / "n.safetensors")
    refused(Refusal, "needs the scene's sensor: give --sensor, or a run", here, sensor=None)
    refused(DataError, "n.safetensors was trained for sensor QB, not mine", here, start=file, sensor=MINE)
    refused(Refusal, "nowhere: no such folder", here, out=here / "nowhere" / "o.tif")
    refused(ValueError, "unknown preset 'fast'; choose from smoke, demo, paper", here, preset="fast")
    refused(DataError, "gone.tif: cannot be read .No such file", here, pan=here / "gone.tif")
    refused(ManifestError, "bands red, red of sensor QB: give each once", here, bands=["red", "red"])
    refused(ManifestError, "lists 3, but sensor QB has 4; give one for each, names", here, bands=[3, 2, 1])
    refused(CheckpointError, "pan.tif cannot be read as safetensors", here, start=here / "pan.tif")


def test_a_scene_too_small_for_its_splits_is_refused_with_a_way_out(here):
    refused(DataError, "leave one with less than 32 x 32", scene(here, 100))
    refused(DataError, "own_scene.yaml.*without --adapt", here)


@pytest.mark.parametrize(
    ("width", "shares", "truth"),
    [(352, (0.6, 0.2, 0.2), "sharp"), (256, (0.4, 0.3, 0.3), "sharp"), (200, (0.6, 0.2, 0.2), "delivered")],
)
def test_the_splits_adapt_to_a_small_scene_and_then_the_truth(here, width, shares, truth):
    found = plan(scene(here, width))
    assert tuple(found.manifest.split.fractions.values()) == shares
    assert found.settings.config.truth == truth


def test_values_beyond_the_sensors_are_refused_wherever_they_are(here):
    ms = noise(4, 64, 352)
    ms[2, 60, 350] = 4000
    save(here / "ms.tif", ms, grid(4))
    refused(DataError, "holds .*, above the largest value 2047", here)


def test_a_folder_that_cannot_be_written_is_refused(here):
    (here / "runs").write_text("a file")
    with pytest.raises(Refusal, match="scene.yaml: cannot be written .Not a directory"):
        plan(here)


def test_only_the_named_notebooks_run_and_a_missing_one_is_refused(here):
    for name in ("00_first", "01_second", "02_third"):
        write_notebook(here / f"{name}.ipynb", FIRST)
    only = partial(plan_run, MANIFEST, device="cpu", notebooks=here, runs=here / "runs")
    assert [path.stem for path in only(only=("02_third", "00_first")).notebooks] == ["00_first", "02_third"]
    with pytest.raises(Refusal, match="no 03_a and no 04_b in .*clone the repository"):
        only(only=("00_first", "03_a", "04_b"))


def given(path: Path):
    return make_config("smoke", pseudo=str(path))


def test_a_given_network_is_the_pseudo_supervisor_as_it_is(here):
    file = network(here / "n.safetensors", seed=7)
    pseudo, history = train_pseudo(TinyPatches(), given(file), seed=0, device="cpu")
    assert not history.rows and not pseudo.training
    assert same(state(pseudo), state(build_network("pnn", 4, 4, seed=7)))
    start, config = build_network("pnn", 4, 4), given(file).model_copy(update={"stage2_lr": 1e-12})
    options = {"supervised": False, "pseudo": pseudo, "seed": 0}
    [first, *_] = train_fusion(start, PatchStore(TinyPatches(), "cpu"), config, **options).rows
    assert first["pseudo"] == pytest.approx(0, abs=1e-7)


def test_a_network_of_another_sensor_is_refused_with_both_names(here):
    file = network(here / "n.safetensors", sensor=replace(MINE, ratio=2))
    with pytest.raises(
        CheckpointError, match=r"sensor mine \(ratio 2, .*patches are of QB \(ratio 4, bands blue"
    ):
        train_pseudo(TinyPatches(), given(file), seed=0, device="cpu")


def test_training_is_taken_up_by_the_weights_of_the_file_wherever_it_lies(here):
    def trained(file: Path) -> int:
        pseudo, _ = train_pseudo(TinyPatches(), given(file), seed=0, device="cpu")
        seen = []
        options = {"supervised": False, "pseudo": pseudo, "seed": 0, "checkpoint": here / "c.safetensors"}
        progress = lambda *call: seen.append(call[1])  # noqa: E731
        train_fusion(
            build_network("pnn", 4, 4),
            PatchStore(TinyPatches(), "cpu"),
            given(file),
            **options,
            progress=progress,
        )
        return len(seen)

    file = network(here / "n.safetensors")
    assert trained(file) == 3
    shutil.copy(file, here / "copy.safetensors")
    assert trained(here / "copy.safetensors") == 0
    assert trained(network(file, seed=1)) == 3


def command(folder: Path, *options: str, sensor: str = "QB") -> int:
    paths = ["--ms", str(folder / "ms.tif"), "--pan", str(folder / "pan.tif"), "--out", str(folder / "o.tif")]
    own = ["--sensor", sensor] if sensor else []
    return cli.main(["sharpen", *paths, *own, "--device", "cpu", "--adapt", *options])


@pytest.fixture
def trained(monkeypatch) -> list:
    """The command with the notebooks replaced by a network that is there at once; holds the plans."""
    plans = []

    def execute(plan, stream):
        plans.append(plan)
        guided(plan.folder)

    monkeypatch.setattr("clippan_lib.commands.adapt.execute", execute)
    return plans


def test_the_command_sharpens_with_what_it_trained_and_names_the_report(here, trained, capsys):
    assert command(here, "smoke", "--seed", "2") == 0
    [found] = trained
    shown = capsys.readouterr()
    assert shown.out == f"Report: {found.folder / 'index.html'}\n{here / 'o.tif'}\n"
    assert (found.preset, found.seed, found.folder.parent.parent) == ("smoke", 2, here / "runs")
    with rasterio.open(here / "o.tif") as file:
        assert file.tags()["CLIPPAN_METHOD"].endswith("pnn-C-4.safetensors")
        assert file.count == 4


def test_the_demo_is_the_preset_and_a_run_the_start(here, trained):
    start = guided(here / "run")
    assert command(here, "--method", str(here / "run"), sensor="") == 0
    [found] = trained
    assert found.preset == "demo"
    assert found.config.pseudo == str(start)


@pytest.mark.parametrize(
    ("options", "sensor", "said"),
    [
        (["smoke", "--method", "gsa"], "QB", "gsa is a classical method: leave --method out, or give a run"),
        (["smoke"], "", "give --sensor, or a run to begin with as --method"),
        (["smoke"], "WV3", "8 bands"),
        (["smoke", "--tile", "8"], "QB", "a tile of 8 PAN px is too small"),
        (["smoke", "--seed", "-1"], "QB", "a seed is 0 or more"),
        (["smoke", "--method", "gone"], "QB", "--method gone: no such file or folder"),
    ],
)
def test_the_command_refuses_before_it_trains(here, trained, capsys, options, sensor, said):
    assert command(here, *options, sensor=sensor) == 2
    assert said in capsys.readouterr().err
    assert not trained and not (here / "o.tif").exists()


def test_an_unknown_preset_is_refused_with_the_choices(here, trained, capsys):
    assert command(here, "fast") == 2
    assert "unknown preset 'fast'; choose from smoke, demo, paper" in capsys.readouterr().err


def test_a_notebook_that_fails_ends_the_command_without_an_output(here, monkeypatch, capsys):
    (here / "notebooks").mkdir()
    for name in CHAPTERS:
        write_notebook(here / "notebooks" / f"{name}.ipynb", FIRST, "raise KeyError('no such area')")
    monkeypatch.setattr(
        "clippan_lib.commands.adapt.plan_adaptation", partial(plan_adaptation, notebooks=here / "notebooks")
    )
    assert command(here, "smoke") == 1
    shown = capsys.readouterr()
    assert "01_data_preparation failed in code cell 2" in shown.err and "no such area" in shown.err
    assert shown.out == "" and not (here / "o.tif").exists()


@pytest.mark.slow
def test_a_scene_is_adapted_to_and_sharpened_by_the_notebooks_themselves(here, capsys):
    coarse = torch.rand(1, 4, 32, 176, generator=torch.Generator().manual_seed(0))
    truth = 200 + 1600 * F.interpolate(coarse, scale_factor=8, mode="bicubic")[0].clamp(0, 1)
    ms = F.avg_pool2d(truth, 4)
    save(here / "ms.tif", ms.numpy().astype("uint16"), grid(4))
    save(here / "pan.tif", truth.mean(0, keepdim=True).numpy().astype("uint16"), grid())
    assert command(here, "smoke") == 0
    said = capsys.readouterr()
    report = Path(said.out.split("\n")[0].removeprefix("Report: "))
    assert "No certificate: one scale down 10 LRMS px are left" in said.err
    judged = load(report.parent).query("notebook == '04_stage2_training' and resolution == 'full'")
    assert {"D_lambda", "D_s", "QNR", "HQNR"} <= {*judged["metric"]}
    assert {"GSA", "MTF-GLP-HPM-R", "bandwise", "bandwise-C", "bandwise, as given"} <= {*judged["method"]}
    assert "05_zooms_full.png" in report.read_text()
    with rasterio.open(here / "o.tif") as file:
        fused = torch.from_numpy(file.read().astype("float32"))
    assert fused.shape == (4, 256, 1408) and 0.8 < fused.mean() / ms.mean() < 1.2
