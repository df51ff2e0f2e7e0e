"""Whole scenes with their own optics: measured gains reach the method, and consistency wants PAN to lie on MS."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasters import grid, noise, save
from scenes import HEIGHT, SOFT, WIDTH, scene

from clippan_lib import __version__, cli
from clippan_lib.data.pair import ScenePair, open_pair
from clippan_lib.data.pair.grid import STILL
from clippan_lib.errors import DataError
from clippan_lib.fusion import network_for
from clippan_lib.fusion.consistency import Consistent, reach, reach_with_both
from clippan_lib.fusion.networks.bandwise import BandWise
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.mtf import degrade
from clippan_lib.runs.folder import RunFolder, find_network
from clippan_lib.sensors import Sensor, get_sensor
from clippan_lib.sharpening import plan_job, registration, sharpen, windows
from clippan_lib.sharpening.contest import plan_contest
from clippan_lib.sharpening.optics import scene_optics

QB = get_sensor("QB")
AS_IT_LIES = (0.0, 0.0)
OTHER = replace(QB, gnyq=(0.5, 0.5, 0.5, 0.5))  # of the same kind, measured elsewhere


def fused(job, out: Path) -> np.ndarray:
    sharpen(job, out)
    with rasterio.open(out) as file:
        return file.read().astype(float)


def network(path: Path, sensor: Sensor = QB, consistency: int = 0, sharpness: float | None = None) -> Path:
    origin = {"variant": "pnn-C", "resolution": "full", "seed": "0"}
    trained = network_for("pnn", sensor, 0, consistency, sharpness).eval()
    TrainedNetwork(trained, "pnn", sensor, 2047.0, origin).save(path)
    return path


@pytest.fixture
def unmeasured(monkeypatch):
    monkeypatch.setattr(registration, "measure_optics", lambda *_, **__: pytest.fail("was measured"))


@pytest.fixture
def shipped(monkeypatch):
    """The network that comes with the package, but smaller and with weights of any kind."""

    def load(sensor, ratio):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = BandWise(sensor.n_bands, ratio, width=4).through(sensor.gnyq)
            torch.nn.init.normal_(made.tail.weight, std=0.05)
        return Consistent(made, sensor.gnyq, ratio, 1).requires_grad_(False).eval()

    for place in ("sharpening.binding", "fusion.registry"):
        monkeypatch.setattr(f"clippan_lib.{place}.load_bandwise", load)


@pytest.mark.parametrize("sensor", [QB, None])
def test_the_gains_of_the_scene_are_those_that_the_method_uses(tmp_path, sensor):
    paths = scene(tmp_path)
    job = plan_job(*paths, "mtf_glp", sensor=sensor, tile=128)
    assert job.optics.measured
    np.testing.assert_allclose(job.optics.gnyq, SOFT, rtol=0.25)
    seen = fused(job, tmp_path / "o.tif")
    told = replace(QB, gnyq=job.optics.gnyq)
    same = plan_job(*paths, "mtf_glp", sensor=told, tile=128, gains="table")
    assert np.array_equal(seen, fused(same, tmp_path / "o.tif"))
    table = plan_job(*paths, "mtf_glp", sensor=QB, tile=128, gains="table")
    assert np.abs(seen - fused(table, tmp_path / "o.tif")).max() > 10


def test_with_the_tables_gains_nothing_is_measured(tmp_path, unmeasured):
    job = plan_job(*scene(tmp_path), "mtf_glp", sensor=QB, gains="table", shift=AS_IT_LIES)
    assert job.optics.gnyq == QB.gnyq and not job.optics.measured
    assert job.optics.remark == "gains: the table's, .34 .32 .30 .22"
    own = {"CLIPPAN_METHOD": "mtf_glp", "CLIPPAN_VERSION": __version__}
    assert job.tags == own | {"CLIPPAN_GAINS": "0.340 0.320 0.300 0.220, table"}


def test_what_uses_no_gains_of_the_scene_is_not_measured(tmp_path, unmeasured):
    paths = scene(tmp_path)
    for method in ("gsa", network(tmp_path / "n.safetensors", OTHER, consistency=2)):
        job = plan_job(*paths, method, sensor=QB, shift=AS_IT_LIES)  # a network's gains may be others
        assert job.optics is None and list(job.tags) == ["CLIPPAN_METHOD", "CLIPPAN_VERSION"]


def test_the_tables_gains_follow_the_order_of_the_bands(tmp_path):
    gt = noise(4, 24, 24)
    save(tmp_path / "ms.tif", gt, grid(4), names=QB.bands)
    save(tmp_path / "pan.tif", noise(1, 96, 96), grid())
    given = (tmp_path / "ms.tif", tmp_path / "pan.tif", "mtf_glp")
    job = plan_job(*given, sensor=QB, gains="table", bands=["nir", "blue"])
    assert job.optics.gnyq == (0.22, 0.34)
    save(tmp_path / "ms.tif", gt, grid(4), names=("blue", "x", "y", "z"))
    assert plan_job(*given, sensor=QB, gains="table", bands=["blue", "z", "y", "x"]).optics.gnyq == QB.gnyq
    for bands in (
        ["z", "y", "x", "blue"],
        ["blue", "x"],
    ):  # blue is not QB's last, and nobody knows what x is
        with pytest.raises(DataError, match=f"{', '.join(bands)} are wanted for sensor QB of 4 bands"):
            plan_job(*given, sensor=QB, gains="table", bands=bands)


def test_some_bands_of_a_sensor_have_its_gains_with_every_method(tmp_path, shipped):
    ms, pan = scene(tmp_path)
    with rasterio.open(ms, "r+") as file:
        file.descriptions = ["Blue", "Green", "Red", "NIR"]
    wv3 = get_sensor("WV3")
    for bands in (None, ["red", "green", "blue"], ["nir1", "blue"], [4, 2]):
        job = plan_job(ms, pan, "bdsd_pc", sensor=wv3, gains="table", bands=bands)
        known = dict(zip(wv3.bands, wv3.gnyq, strict=True))
        assert job.optics.gnyq == tuple(known[name] for name in job.pair.band_names)
        for method in ("gsa", "mtf_glp_hpm_r", "bt_h++1", "stack", "bandwise"):
            assert plan_job(ms, pan, method, sensor=wv3, bands=bands).pair.n_bands == len(bands or range(4))
    with pytest.raises(
        DataError, match="sensor WV3 has no band nir1, green; its own are .* leave the sensor out"
    ):
        scene_optics(job.placed, wv3.only(["blue", "red"]), "table", 0, "x")


def test_a_network_wants_all_its_bands_in_its_order(tmp_path):
    (ms, pan), file = scene(tmp_path), network(tmp_path / "n.safetensors")
    told = r"trained for bands blue, green, red, nir of QB, in this order, and the scene has red, green, blue.*--bands"
    for bands in (["red", "green", "blue"], ["red", "green", "blue", "nir"]):
        with pytest.raises(DataError, match=told):
            plan_job(ms, pan, file, bands=bands)
    with pytest.raises(DataError, match=told):
        plan_contest(ms, pan, sensor=QB, networks=[file], bands=["red", "green", "blue"])
    assert plan_job(ms, pan, file, bands=["blue", "green", "red", "nir"]).pair.n_bands == 4


def test_gains_that_nobody_measured_are_called_assumed(tmp_path):
    paths = scene(tmp_path)
    job = plan_job(*paths, "mtf_glp", sensor=get_sensor("PHR"), gains="table")
    assert job.optics.remark == "gains: the table's, assumed (no published measurement), .30 .30 .30 .30"
    assert job.tags["CLIPPAN_GAINS"] == "0.300 0.300 0.300 0.300, table, assumed"
    measured = plan_job(*paths, "mtf_glp", sensor=get_sensor("PHR"))
    assert (
        measured.optics.measured and "assumed" not in measured.optics.remark + measured.tags["CLIPPAN_GAINS"]
    )


def test_a_fit_that_is_not_good_leaves_the_table_and_without_one_is_refused_with_its_number(tmp_path):
    paths, told = scene(tmp_path, other_place=True), {"shift": AS_IT_LIES}
    job = plan_job(*paths, "mtf_glp", sensor=QB, **told)
    assert job.optics.gnyq == QB.gnyq and job.optics.found is None
    assert job.optics.remark.startswith("gains: the table's, .34 .32 .30 .22, as the fit is not good: R² .")
    assert job.tags["CLIPPAN_GAINS"].endswith("table") and "CLIPPAN_SHIFT" not in job.tags
    with pytest.raises(
        DataError, match=r"mtf_glp needs MTF gains.*fit is not good: R² \.[01].*give --sensor"
    ):
        plan_job(*paths, "mtf_glp", **told)
    with pytest.raises(
        DataError, match="3 steps .* which cannot be told, as the fit is not good: R² .*leave"
    ):
        plan_job(*paths, "gsa", sensor=QB, consistent=3, **told)


def test_a_scene_too_small_to_be_measured_leaves_the_table_and_without_one_is_refused(tmp_path):
    paths = (
        save(tmp_path / "ms.tif", noise(4, 24, 24), grid(4)),
        save(tmp_path / "pan.tif", noise(1, 96, 96), grid()),
    )
    remark = plan_job(*paths, "mtf_glp", sensor=QB).optics.remark
    assert "table's, .34 .32 .30 .22, as they cannot be measured (lrms (1, 4, 24, 24) has 0 valid" in remark
    with pytest.raises(DataError, match="cannot be measured .*give --sensor"):
        plan_job(*paths, "mtf_glp")
    with pytest.raises(
        DataError, match="without a sensor there is no table; give --sensor, or --gains measured"
    ):
        plan_job(*paths, "mtf_glp", gains="table")


def test_a_scene_without_data_in_common_is_not_measured(tmp_path, unmeasured):
    paths = scene(tmp_path, hole=4 * WIDTH)
    optics = scene_optics(registration.place(*paths, sensor=QB), QB, "measured", 0, "mtf_glp")
    assert "no pixel that was read holds data" in optics.remark
    with pytest.raises(DataError, match="no pixel holds data in both"):
        plan_job(*paths, "mtf_glp", sensor=QB)


def test_the_gain_of_pan_is_not_measured_so_that_bdsd_needs_a_sensor(tmp_path):
    paths = scene(tmp_path)
    with pytest.raises(
        ValueError, match=r"bdsd_pc needs the MTF gains of a sensor \(gnyq, gnyq_pan\); give .*--sensor"
    ):
        plan_job(*paths, "bdsd_pc")
    job = plan_job(*paths, "bdsd_pc", sensor=QB)
    assert job.optics.measured and job.optics.sensor.gnyq_pan == QB.gnyq_pan


def test_pixels_without_data_are_left_out_of_what_is_measured(tmp_path):
    (tmp_path / "with").mkdir()
    whole, holed = scene(tmp_path), scene(tmp_path / "with", hole=101)
    (window,) = windows.far_windows(open_pair(*holed))
    # LRMS pixel 25 has one PAN pixel without data
    held = windows.held(window)[0, 0]
    assert held.shape == (HEIGHT, WIDTH) and not held[:, :26].any() and held[:, 26:].all()
    found = [plan_job(*paths, "mtf_glp").optics.gnyq for paths in (whole, holed)]
    np.testing.assert_allclose(*found, rtol=0.25)
    assert found[0] != found[1]


def test_windows_are_far_apart_and_hold_data(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "SIDE", 16)
    monkeypatch.setattr(windows, "NARROW", 16)
    read, of_pair = [], ScenePair.read

    def watched(pair, rows, columns):
        read.append((rows.start, columns.start))
        return of_pair(pair, rows, columns)

    monkeypatch.setattr(ScenePair, "read", watched)
    assert len(windows.far_windows(open_pair(*scene(tmp_path)))) == 4
    # of 4 rows of 5 places the 1st, 7th, 14th and 20th
    assert read == [(0, 0), (19, 17), (39, 51), (59, 68)]
    read.clear()
    found = windows.far_windows(open_pair(*scene(tmp_path, hole=4 * 61)))
    assert [windows.held(window).all().item() for window in found] == [True] * 4
    assert len(read) == len(set(read)) and read[-1][1] == 68  # it ends with the last of that column
    read.clear()
    found = windows.far_windows(open_pair(*scene(tmp_path, hole=4 * 78)))
    assert len(read) == len(set(read)) == 20  # none is half full: the fullest of all
    assert [windows.held(window).double().mean().item() for window in found] == [6 / 16] * 4


OFF = (
    r"off by (1\.0|\.9)\d down, (2\.0|1\.9)\d left px \(R² [\d.]+\); leave .*"
    r"have MS moved by that first \(--register\)"
)


@pytest.mark.parametrize("method", ["bt_h", "mtf_glp", "file", "bandwise"])
@pytest.mark.parametrize("gains", ["measured", "table"])
def test_where_pan_lies_off_ms_consistency_is_refused_with_the_shift(tmp_path, shipped, method, gains):
    paths = scene(tmp_path, shift=(1, -2))
    method = network(tmp_path / "n.safetensors") if method == "file" else method
    plan_job(*paths, method, sensor=QB, gains=gains)
    with pytest.raises(
        DataError, match="3 steps of consistency need PAN to lie on MS within .5 PAN px, and it is " + OFF
    ):
        plan_job(*paths, method, sensor=QB, gains=gains, consistent=3)


def test_steps_in_the_name_are_checked_as_those_of_the_option_and_mean_the_same(tmp_path):
    (tmp_path / "off").mkdir()
    with pytest.raises(DataError, match="1 step of consistency needs .*" + OFF):
        plan_job(*scene(tmp_path / "off", shift=(1, -2)), "bt_h+1")
    paths = scene(tmp_path)
    named, asked = plan_job(*paths, "bt_h+2"), plan_job(*paths, "bt_h", consistent=2)
    assert named.key == asked.key and named.title == asked.title == "bt_h+2"
    assert named.fuser.apron == plan_job(*paths, "bt_h").fuser.apron + 2 * 13
    with pytest.raises(
        DataError, match="bt_h[+]2 has 2 steps of consistency, and --consistent asks for 3; leave one"
    ):
        plan_job(*paths, "bt_h+2", consistent=3)
    with pytest.raises(DataError, match="-1 steps of consistency: give 0 to 100"):
        plan_job(*paths, "bt_h", consistent=-1)
    with pytest.raises(ValueError, match="'x' is no number of steps"):
        plan_job(*paths, "bt_h+x")


def test_a_step_brings_the_output_nearer_to_the_bands_with_the_gains_of_the_scene(tmp_path):
    paths = scene(tmp_path)
    window = open_pair(*paths).read(slice(None), slice(None))
    errors = []
    for steps in (0, 2):
        hrms = fused(plan_job(*paths, "gsa", tile=512, consistent=steps), tmp_path / "o.tif")
        seen = degrade(torch.from_numpy(hrms)[None], SOFT, 4) - window.lrms
        errors.append(seen[..., 8:-8, 8:-8].square().mean().sqrt().item())
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize("method", ["bt_h", "mtf_glp_hpm_r", "file", "bandwise"])
def test_tiles_of_a_consistent_method_leave_no_trace(tmp_path, shipped, method):
    paths = scene(tmp_path, hole=7)
    method = network(tmp_path / "n.safetensors", OTHER, consistency=1) if method == "file" else method
    jobs = [plan_job(*paths, method, tile=tile, consistent=1) for tile in (512, 100)]
    assert all(job.exact for job in jobs)
    whole, tiled = (fused(job, tmp_path / "o.tif") for job in jobs)
    np.testing.assert_allclose(tiled, whole, atol=1)  # one number, where rounding went the other way
    assert (tiled != whole).mean() < 1e-3


@pytest.mark.parametrize(
    "moved",
    [{"register": True}, {"shift": (2.0, -1.0, 1e-3, 5e-4, -5e-4, 1e-3)}],
    ids=["registered", "by an affine map"],
)
@pytest.mark.parametrize("method", ["gsa+2", "bt_h++2"])
def test_tiles_of_a_moved_ms_leave_no_trace(tmp_path, method, moved):
    paths = scene(tmp_path, shift=(2, -1))
    jobs = [plan_job(*paths, method, sensor=QB, tile=tile, **moved) for tile in (512, 100)]
    assert jobs[0].placed.shift != STILL and all(job.exact for job in jobs)
    whole, tiled = (fused(job, tmp_path / "o.tif") for job in jobs)
    np.testing.assert_allclose(tiled, whole, atol=1)
    assert (tiled != whole).mean() < 1e-3


@pytest.mark.parametrize(("sharpness", "apron"), [(None, reach(4, 2)), (0.8, reach_with_both(4, 2))])
def test_a_network_of_a_run_that_ends_in_consistency_leaves_no_trace_of_tiles(
    tmp_path, unmeasured, sharpness, apron
):
    paths = scene(tmp_path)
    network(RunFolder(tmp_path / "run").network("full", "pnn-C", 0), OTHER, 2, sharpness)
    file = find_network(tmp_path / "run")
    plain = network(tmp_path / "plain.safetensors", OTHER)
    job, small, without = (
        plan_job(*paths, which, tile=tile, shift=AS_IT_LIES)
        for which, tile in ((file, 512), (file, 100), (plain, 1024))
    )
    assert job.exact and job.fuser.apron == without.fuser.apron + apron
    whole, tiled = (fused(each, tmp_path / "o.tif") for each in (job, small))
    assert np.abs(tiled - whole).max() <= 1 and (tiled != whole).mean() < 1e-3
    trained = TrainedNetwork.load(file).network
    window = open_pair(*paths).read(slice(None), slice(None))
    expected = 2047 * trained(window.lrms / 2047, window.pan / 2047)[0].numpy()
    np.testing.assert_allclose(whole, expected.clip(1), atol=0.51)  # 0 is NoData


def test_the_steps_behind_a_network_use_the_gains_of_the_scene_and_its_layers_their_own(tmp_path):
    paths, file = scene(tmp_path), network(tmp_path / "n.safetensors", OTHER, consistency=1)
    job = plan_job(*paths, file, consistent=1)
    np.testing.assert_allclose(job.optics.gnyq, SOFT, rtol=0.25)
    assert job.title == f"pnn+1 of {file}"
    assert plan_job(*paths, file, consistent=1, gains="table").optics.gnyq == OTHER.gnyq


def test_the_network_of_the_package_takes_any_sensor_and_the_gains_of_the_scene(tmp_path, shipped):
    paths = scene(tmp_path)
    job, table = plan_job(*paths, "bandwise"), plan_job(*paths, "bandwise", sensor=QB, gains="table")
    assert job.optics.measured and table.optics.gnyq == QB.gnyq
    out = fused(job, tmp_path / "o.tif")
    assert (
        out.shape == (4, 4 * HEIGHT, 4 * WIDTH) and np.abs(out - fused(table, tmp_path / "o.tif")).max() > 5
    )
    assert plan_job(*paths, "bandwise", bands=[3, 1]).pair.n_bands == 2


def test_a_network_refuses_another_kind_of_sensor_and_not_other_gains(tmp_path):
    paths, file = scene(tmp_path), network(tmp_path / "n.safetensors", OTHER)
    assert plan_job(*paths, file, sensor=QB).fuser.max_value == 2047
    with pytest.raises(DataError, match="was trained for sensor QB, not GE1; leave the sensor out"):
        plan_job(*paths, file, sensor=get_sensor("GE1"))
    with pytest.raises(DataError, match=r"sensor QB \(ratio 4, bands blue.*, not QB \(ratio 2, bands blue"):
        plan_job(*paths, file, sensor=replace(QB, ratio=2))


def test_what_was_measured_is_part_of_the_job_and_the_same_each_time(tmp_path, monkeypatch):
    paths = scene(tmp_path)
    first, again = (plan_job(*paths, "mtf_glp", sensor=QB).key for _ in range(2))
    assert first == again != plan_job(*paths, "mtf_glp", sensor=QB, gains="table").key
    measure = registration.measure_optics

    def another(*images, **options):
        found = measure(*images, **options)
        return replace(found, gnyq=(*found.gnyq[:3], found.gnyq[3] + 0.001))

    monkeypatch.setattr(registration, "measure_optics", another)
    assert plan_job(*paths, "mtf_glp", sensor=QB).key != first


def test_other_numbers_of_threads_mean_the_same_job(tmp_path, monkeypatch):
    paths, measure = scene(tmp_path), registration.measure_optics
    first = plan_job(*paths, "gsa+1").key

    def nearly(*images, **options):
        found = measure(*images, **options)
        down, right = (by + 1e-9 for by in found.shift)
        return replace(
            found, gnyq=tuple(g + 1e-9 for g in found.gnyq), shift=(down, right), r2=found.r2 - 1e-9
        )

    monkeypatch.setattr(registration, "measure_optics", nearly)
    assert plan_job(*paths, "gsa+1").key == first


def test_the_output_says_which_gains_it_was_made_with_and_how_pan_lay(tmp_path):
    job = plan_job(*scene(tmp_path), "mtf_glp", consistent=1, tile=512)
    found = job.optics.found
    sharpen(job, tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as file:
        tags = file.tags()
    assert tags["CLIPPAN_METHOD"] == "mtf_glp+1"
    gains = " ".join(f"{gain:.3f}" for gain in found.gnyq)
    assert tags["CLIPPAN_GAINS"] == f"{gains}, measured, R² {found.r2:.3f}"
    assert [float(by) for by in tags["CLIPPAN_SHIFT"].split()] == pytest.approx(found.shift, abs=0.005)


def command(folder: Path, *options: str) -> int:
    files = [["--" + name, str(folder / f"{name}.tif")] for name in ("ms", "pan", "out")]
    return cli.main(["sharpen", *sum(files, []), "--device", "cpu", *options])


def test_the_command_says_which_gains_it_used(tmp_path, capsys):
    scene(tmp_path)
    assert command(tmp_path, "--method", "mtf_glp") == 0
    said = capsys.readouterr().err
    assert re.search(
        r"PAN lies \.0\d [a-z]+, \.0\d [a-z]+ px off MS \(R² (1\.00|\.9\d)\)\n"
        r"gains measured on the scene: \.\d\d( \.\d\d){3} \(R² (1\.00|\.9\d)\)\n",
        said,
    )
    assert command(tmp_path, "--method", "mtf_glp", "--gains", "table", "--sensor", "QB") == 0
    assert "gains: the table's, .34 .32 .30 .22\n" in capsys.readouterr().err
    assert command(tmp_path, "--consistent", "2") == 0
    assert "gsa+2: 300 x 336 px" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--consistent", "3"], "off by .99 down, 1.99 left px"),
        (
            ["--method", "bt_h+3"],
            "leave --consistent (or the + of the method) out, or have MS moved by that first",
        ),
        (["--method", "gsa+1", "--consistent", "1"], "leave one of the two out"),
        (["--method", "mtf_glp", "--gains", "table"], "give --sensor, or --gains measured"),
        (["--adapt", "smoke", "--sensor", "QB", "--consistent", "2"], "off by .99 down, 1.99 left px"),
        (
            ["--adapt", "smoke", "--method", "bandwise"],
            "bandwise is the network that comes with the package: leave",
        ),
        (["--adapt", "smoke", "--method", "gsa+0"], "'0' is no number of steps"),
        (["--adapt", "smoke", "--method", "stack"], "give another --method"),
        (["--method", "stack", "--consistent", "2"], "stack has its own steps of consistency"),
        (["--method", "stack"], "give another --method, or have MS moved by that first"),
        (["--method", "gone"], "stack is a weighted mean of several, bandwise a network that comes with"),
    ],
)
def test_the_command_refuses_before_anything_is_written(tmp_path, capsys, shipped, options, said):
    scene(tmp_path, shift=(1, -2))
    before = sorted(tmp_path.iterdir())
    assert command(tmp_path, *options) == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("options", [["--consistent", "0"], ["--gains", "guessed"]])
def test_values_that_options_do_not_have_are_refused_with_the_usage(tmp_path, capsys, options):
    with pytest.raises(SystemExit) as caught:
        command(tmp_path, *options)
    assert caught.value.code == 2
    assert re.search(r"0: give 1 or more|'guessed' \(choose from", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("name", "r2", "shifted"),
    [("phr_urban", 0.9, False), ("qb_fields", 0.9, True), ("l9_toa_rgb", 0.0, None)],
)
def test_real_scenes_are_measured_as_they_are(shared, name, r2, shifted):
    paths = [shared / "scenes" / name / file for file in ("ms.tif", "pan.tif")]
    if shifted is None:
        with pytest.raises(DataError, match=r"no common structure: R² is 0\.0"):
            plan_job(*paths, "gsa")
        return
    job = plan_job(*paths, "mtf_glp")
    assert job.optics.found.r2 > r2
    assert (max(map(abs, job.optics.found.shift)) > registration.FARTHEST) == shifted


def test_a_stack_is_weighed_on_the_scene_and_fused_in_tiles_as_in_one(tmp_path, capsys, shipped):
    scene(tmp_path)
    assert command(tmp_path, "--method", "stack", "--tile", "128") == 0
    said = capsys.readouterr().err
    weights = [float(weight) for weight in re.findall(r"[a-z_]+ (\.\d\d)[,:]", said.split("px of PAN")[0])]
    assert len(weights) >= 2 and sum(weights) == pytest.approx(1) and weights == sorted(weights)[::-1]
    with rasterio.open(tmp_path / "out.tif") as file:
        tiled, told = file.read().astype(float), file.tags()
    assert told["CLIPPAN_METHOD"].startswith("stack of ") and "measured" in told["CLIPPAN_GAINS"]
    whole = fused(plan_job(tmp_path / "ms.tif", tmp_path / "pan.tif", "stack"), tmp_path / "o.tif")
    assert np.abs(tiled - whole).max() <= 1


def test_a_stack_is_its_band_wise_member_where_no_window_is_whole(tmp_path, shipped):
    job = plan_job(*scene(tmp_path, hole=101), "stack")
    assert job.exact and job.title == "stack of bandwise 1.00"
