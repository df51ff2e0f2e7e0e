"""Words behind a method, on whole scenes: no trace of tiles, LRMS as it was, and what cannot be done is refused."""

import json
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import open_clip
import pytest
import rasterio
import torch
from rasters import grid, noise, save
from scenes import SOFT, scene

from clippan_lib import cli
from clippan_lib.clip import load_clip, tower
from clippan_lib.clip.tower import TOWER
from clippan_lib.errors import ClipWeightsError, DataError
from clippan_lib.files import read_json
from clippan_lib.fusion import get_method
from clippan_lib.fusion.walk import SIZE, STEPS, walk
from clippan_lib.losses.guidance import guide
from clippan_lib.mtf import degrade
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening import plan_job, sharpen, windows
from clippan_lib.sharpening.tiles import cut

QB = get_sensor("QB")
WORDS = "a sharper image"
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
VISION = {
    "refine-dense": {"timm_model_name": TOWER, "timm_pool": "", "timm_proj": "", "image_size": 64},
    "refine-patches": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
}


@pytest.fixture(scope="module", autouse=True)
def clips(tmp_path_factory):
    """Small ones, with weights of any kind."""
    for name, vision in VISION.items():
        path = tmp_path_factory.mktemp("clip") / f"{name}.json"
        path.write_text(json.dumps({"embed_dim": 8, "vision_cfg": vision, "text_cfg": TEXT}))
        open_clip.add_model_config(path)
    with pytest.MonkeyPatch.context() as smaller:
        smaller.setattr(tower, "DenseTower", partial(tower.DenseTower, width=8, depth=2))
        yield


def planned(paths, method="gsa", refine=WORDS, **options):
    given = {"sensor": QB, "clip_model": "refine-dense", "clip_weights": "random:0"}
    return plan_job(*paths, method, refine=refine, **given | options)


def fused(job, out):
    sharpen(job, out)
    with rasterio.open(out) as file:
        return file.read().astype(float)


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A scene with a hole, the job that takes it as one tile, its image, and that of the method alone."""
    folder = tmp_path_factory.mktemp("walked")
    paths = scene(folder, hole=7)
    job, plain = planned(paths, tile=512, dtype="float32"), plan_job(*paths, sensor=QB, dtype="float32")
    return paths, job, *(fused(each, folder / "o.tif") for each in (job, plain))


def test_tiles_of_a_walk_leave_no_trace(tmp_path, walked):
    paths, job, whole, plain = walked
    tiled = planned(paths, tile=100, dtype="float32")
    assert job.exact and tiled.exact and tiled.refinement.record == job.refinement.record
    assert (tiled.side, job.side) == (25, 84)
    assert np.abs(whole - plain).max() > 4
    assert np.abs(fused(tiled, tmp_path / "o.tif") - whole).max() < 0.02


def test_the_walk_has_its_length_and_is_not_seen_by_the_bands(walked):
    _, job, whole, plain = walked
    step = torch.from_numpy(whole - plain)[None, ..., 16:]
    assert 0.5 * SIZE * STEPS < (step / job.refinement.deviation).square().mean().sqrt() < 1.05 * SIZE * STEPS
    np.testing.assert_allclose(job.optics.gnyq, SOFT, rtol=0.25)
    seen = degrade(step, SOFT, 4)[..., 4:-4, 4:-4]
    assert seen.square().mean().sqrt() < 0.1 * step[..., 16:-16, 16:-16].square().mean().sqrt()


def test_all_windows_of_a_scene_and_only_what_holds_data_decide_how_it_is_walked(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "SIDE", 32)
    monkeypatch.setattr(windows, "NARROW", 32)
    job = planned(scene(tmp_path, hole=40), "exp", shift=(0.0, 0.0))
    found, told = job.placed.windows, job.refinement
    assert len(found) == 4
    kept = [window.lrms[0][:, windows.held(window)[0, 0]] for window in found]
    assert sum(part.shape[1] for part in kept) < 4 * 32**2
    deviation = torch.cat(kept, 1).std(1)
    torch.testing.assert_close(told.deviation.flatten(), deviation, rtol=1e-3, atol=0)
    lows = told.supervisor.stretch("lrms").lo
    torch.testing.assert_close(lows, torch.cat(kept, 1).quantile(0.02, 1), rtol=0.01, atol=0)
    lengths = []
    for window in found:
        with torch.no_grad():
            loss = guide(told.supervisor, window.lrms, window.pan, True, WORDS)
            image = get_method("exp", QB, 4)(window.lrms, window.pan)
        step = walk(image, loss, told.deviation, gnyq=told.gnyq, ratio=4, steps=1, rate=told.rate) - image
        lengths.append((step / told.deviation).square().mean().item())
    assert np.sqrt(np.mean(lengths)) == pytest.approx(SIZE, rel=1e-3)


def test_other_words_and_clips_are_other_jobs_and_the_same_ones_the_same(tmp_path):
    paths = scene(tmp_path)
    job = planned(paths)
    assert planned(paths).key == job.key
    others = (planned(paths, refine="a blurred image"), planned(paths, clip_weights="random:1"))
    assert len({job.key, plan_job(*paths, "gsa", sensor=QB).key, *(other.key for other in others)}) == 4
    assert job.fuser.apron > plan_job(*paths, "gsa", sensor=QB).fuser.apron


def test_a_ratio_of_two_starts_tiles_where_the_tower_needs_it(tmp_path):
    generator = np.random.default_rng(0)
    smooth = generator.normal(size=(4, 96, 96)).cumsum(1).cumsum(2)
    high = (1000 + 200 * (smooth - smooth.mean()) / smooth.std() + generator.normal(size=(4, 96, 96))).astype(
        np.float32
    )
    ms = high.reshape(4, 48, 2, 48, 2).mean((2, 4))
    paths = (
        save(tmp_path / "ms.tif", ms, grid(2)),
        save(tmp_path / "pan.tif", high.mean(0, keepdims=True), grid()),
    )
    job = planned(paths, "exp", sensor=get_sensor("L8").only(["blue", "green", "red", "nir"]))
    assert job.refinement.ratio == 2 and job.fuser.method.align == 2 and job.fuser.apron % 2 == 0


def test_output_and_record_say_by_which_words_and_which_clip(tmp_path):
    words = 'a "sharper" image & nothing <else>, as crisp as possible'
    job = planned(scene(tmp_path), "gsa", words)
    sharpen(job, tmp_path / "o.tif")
    digest = load_clip("refine-dense", "random:0").fingerprint
    with rasterio.open(tmp_path / "o.tif") as file:
        assert file.tags()["CLIPPAN_WORDS"] == words
        assert file.tags()["CLIPPAN_WALK"] == f"10 steps, CLIP refine-dense random:0, SHA-256 {digest}"
    told = read_json(tmp_path / "o.clippan.json")
    assert told["refine"] == job.refinement.record and told["refine"]["words"] == words
    assert told["refine"]["clip"] == {"model": "refine-dense", "weights": "random:0", "sha256": digest}
    assert told["gains"]["source"] == "measured" and told["refine"]["steps"] == STEPS
    assert f'walked along the words "{words}": 10 steps, in what the bands do not see' in told["remarks"]
    sharpen(plan_job(*scene(tmp_path), "gsa", sensor=QB), tmp_path / "o.tif")
    assert read_json(tmp_path / "o.clippan.json")["refine"] is None


def test_what_cannot_be_walked_is_refused(tmp_path):
    paths = scene(tmp_path)
    for blank in ("", "  "):
        with pytest.raises(DataError, match="words .* are blank; say what"):
            planned(paths, refine=blank)
    with pytest.raises(ValueError, match="has .* tokens and refine-dense takes 77"):
        planned(paths, refine="sharp " * 80)
    with pytest.raises(ValueError, match="CLIP refine-patches has no features of pixels"):
        planned(paths, clip_model="refine-patches")
    with pytest.raises(ClipWeightsError):
        planned(paths, clip_model="local-dir:/nowhere", clip_weights=None)
    with pytest.raises(DataError, match=r"a CLIP .refine-dense. reads words, and there are none"):
        planned(paths, refine=None)
    with pytest.raises(DataError, match="bands whose wavelengths are known, and band_1, band_2.* is none"):
        planned(paths, sensor=None)


def test_where_pan_lies_off_ms_words_are_refused(tmp_path):
    paths = scene(tmp_path, shift=(1, -2))
    plan_job(*paths, "gsa", sensor=QB)
    with pytest.raises(
        DataError, match="words need PAN to lie on MS within .5 PAN px, and it is off by .* leave --refine"
    ):
        planned(paths)
    assert planned(paths, register=True).refinement
    save(tmp_path / "ms.tif", noise(4, 24, 24), grid(4))
    save(tmp_path / "pan.tif", noise(1, 96, 96), grid())
    with pytest.raises(DataError, match="words need PAN .* which cannot be told, as"):
        planned(paths, shift=(0.0, 0.0), gains="table")


def test_the_command_takes_words_and_refuses_them_before_anything_is_written(tmp_path, capsys):
    ms, pan = map(str, scene(tmp_path))
    told = ["sharpen", "--ms", ms, "--pan", pan, "--out", str(tmp_path / "o.tif"), "--sensor", "QB"]
    clip = ["--clip-model", "refine-dense", "--clip-weights", "random:0"]
    assert cli.main([*told, "--refine", WORDS, *clip]) == 0
    assert 'walked along the words "a sharper image"' in capsys.readouterr().err
    (tmp_path / "o.tif").unlink()
    for method in ("gsa", "auto"):
        assert cli.main([*told, "--refine", " ", *clip, "--method", method]) == 2
        assert "are blank" in capsys.readouterr().err
    assert cli.main([*told, *clip]) == 2
    assert not (tmp_path / "o.tif").exists()


def test_without_words_no_clip_is_imported(tmp_path):
    ms, pan = map(str, scene(tmp_path))
    given = ["sharpen", "--ms", ms, "--pan", pan, "--out", str(tmp_path / "o.tif")]
    code = f"import sys; from clippan_lib import cli; cli.main({given!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (tmp_path / "o.tif").exists()
    assert not {"open_clip", "timm", "torchvision", "clippan_lib.clip.model"} & set(done.stdout.split())


def test_a_walk_is_pickled_as_a_cluster_needs_it(tmp_path, monkeypatch):
    job = planned(scene(tmp_path), tile=100)
    # its own class again, by whose name it is found
    monkeypatch.setattr(tower, "DenseTower", type(job.refinement.supervisor.towers.model.visual.trunk))
    tile = cut(job.pair, job.side)[0]
    answers = ()
    while isinstance(outcome := job.fuser.visit(tile, answers), tuple):
        answers += (outcome,)
    copied = pickle.loads(pickle.dumps(job.fuser)).visit(tile, answers)
    torch.testing.assert_close(copied.hrms, outcome.hrms)
