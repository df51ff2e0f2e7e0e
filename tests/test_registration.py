"""MS put where PAN shows it: measured or by hand, refused where the two have nothing in common."""

import re
from functools import cache

import numpy as np
import pytest
import rasterio
import torch
from rasters import grid, noise, save
from scenes import scene
from scipy import ndimage

from clippan_lib import cli
from clippan_lib.data.pair import open_pair
from clippan_lib.data.readers import GeoTiffReader
from clippan_lib.data.synthetic import render
from clippan_lib.errors import DataError
from clippan_lib.mtf import degrade
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening import plan_job
from clippan_lib.sharpening.adapt import scene_manifest
from clippan_lib.sharpening.contest import plan_contest
from clippan_lib.sharpening.registration import place

QB = get_sensor("QB")


@pytest.mark.parametrize("shift", [(3, -2), (-6, 5), (20, 11)])
def test_a_shift_of_whole_pixels_is_found_and_undone(tmp_path, shift):
    ms, pan = scene(tmp_path, shift=shift)
    placed = place(ms, pan, register=True)
    assert placed.shift == pytest.approx(shift, abs=0.1)
    assert re.match(
        rf"registered: PAN lay \{shift[0]:+d}\.\d\d rows|registered: PAN lay [+-]\d+\.\d\d rows",
        placed.remark,
    )
    # PAN is as it was: its pixels from some row and column on
    window = placed.pair.read(slice(0, 8), slice(0, 8)).pan[0, 0].numpy()
    with rasterio.open(pan) as file:
        whole, corner = file.read(1), ~file.transform @ (placed.pair.transform @ (0, 0))
    left, top = map(round, corner)
    assert np.array_equal(window, whole[top : top + 32, left : left + 32])


def test_what_is_read_of_a_moved_ms_is_what_lies_there(tmp_path):
    ms, pan = scene(tmp_path)
    there, moved = open_pair(ms, pan), open_pair(ms, pan, shift=(4.0, -8.0))  # one MS px down, two left
    grids = [~pair.transform @ (0, 0) for pair in (there, moved)]
    assert np.subtract(*grids) == pytest.approx(
        [0, 4]
    )  # its first row has no MS any more; on the left PAN ends
    found = moved.read(slice(0, 10), slice(0, 10)).lrms
    assert np.allclose(found, there.read(slice(0, 10), slice(2, 12)).lrms, atol=1e-3)


def test_part_of_a_pixel_is_interpolated(tmp_path):
    ms, pan = scene(tmp_path)
    there, moved = open_pair(ms, pan), open_pair(ms, pan, shift=(0.0, 1.0))
    expected = ndimage.shift(there.read(slice(8, 40), slice(None)).lrms[0].numpy(), (0, 0, 0.25), order=5)
    found = moved.read(slice(8, 40), slice(None)).lrms[0].numpy()
    # the grid begins at the PAN pixel nearest to MS's own: a whole pixel of shift moves the grid
    assert found.shape[0] == 4
    inner = (slice(None), slice(None), slice(8, 60))
    same = np.abs(found[inner] - there.read(slice(8, 40), slice(None)).lrms[0].numpy()[inner]).mean()
    assert min(same, np.abs(found[inner] - expected[inner]).mean()) < 1.0


def test_the_real_pair_as_found_comes_out_where_its_corrected_one_lies(shared):
    folder = shared / "scenes" / "phr_urban"
    placed = place(folder / "ms_as_found.tif", folder / "pan.tif", register=True)
    assert placed.shift == pytest.approx((-2.4, -2.25), abs=0.1)
    again = place(folder / "ms.tif", folder / "pan.tif", register=True)
    assert again.shift == pytest.approx((0, 0), abs=0.15)


def test_pans_of_other_places_are_refused_with_the_evidence(tmp_path, shared):
    with pytest.raises(DataError, match=r"no common structure: R² is 0\.[012]\d at best, .*of another place"):
        place(*scene(tmp_path, other_place=True), register=True)


@pytest.mark.parametrize("register", [True, False])
def test_a_pan_turned_bright_for_dark_is_noticed(tmp_path, register):
    ms, pan = scene(tmp_path)
    with rasterio.open(pan) as file:
        image, transform = file.read(), file.transform
    turned = save(tmp_path / "turned.tif", (image.max() + 1 - image).astype(image.dtype), transform, nodata=0)
    with pytest.raises(
        DataError,
        match=r"turned.tif: is bright where MS is dark \(correlation of their detail -0.\d\d at most\)",
    ):
        place(ms, turned, register=register)


def test_register_and_a_shift_exclude_one_another(tmp_path, capsys):
    ms, pan = scene(tmp_path)
    with pytest.raises(DataError, match=r"register measures the shift, and \(1.0, 0.0\) is given"):
        place(ms, pan, register=True, shift=(1.0, 0.0))
    command = ["sharpen", "--ms", str(ms), "--pan", str(pan), "--out", str(tmp_path / "o.tif")]
    with pytest.raises(SystemExit):
        cli.main([*command, "--register", "--shift", "1,0"])
    assert "not allowed with argument --register" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1", "a,b", "1,2,3", "nan,0", "1e9,0"])
def test_a_shift_that_is_none_is_refused_with_the_usage(tmp_path, capsys, text):
    with pytest.raises(SystemExit):
        cli.main(["sharpen", "--ms", "m", "--pan", "p", "--out", "o", f"--shift={text}"])
    assert text in capsys.readouterr().err


def test_the_command_registers_says_so_and_writes_it_down(tmp_path, capsys):
    ms, pan = scene(tmp_path, shift=(3, -2))
    out = tmp_path / "o.tif"
    command = ["sharpen", "--ms", str(ms), "--pan", str(pan), "--out", str(out), "--method", "bt_h+3"]
    assert cli.main(command) == 2
    assert "need PAN to lie on MS" in capsys.readouterr().err
    assert cli.main([*command, "--register"]) == 0
    assert "registered: PAN lay +" in capsys.readouterr().err
    with rasterio.open(out) as file:
        down, right = map(float, file.tags()["CLIPPAN_MOVED"].split())
    assert (down, right) == pytest.approx((3, -2), abs=0.1)
    assert cli.main([*command, "--shift=3,-2"]) == 0


def test_moved_files_are_another_job_and_another_contest(tmp_path):
    ms, pan = scene(tmp_path, shift=(2, 0))
    keys = {plan_job(ms, pan, "gsa", shift=shift).key for shift in (None, (2.0, 0.0))}
    contests = [plan_contest(ms, pan, sensor=QB, shift=shift) for shift in (None, (2.0, 0.0))]
    assert len(keys) == 2 == len({contest.key for contest in contests})
    assert [bool(contest.absent) for contest in contests] == [True, False]  # consistency takes part again


def said(tmp_path, capsys, *options, **options_of_scene) -> tuple[int, str]:
    ms, pan = scene(tmp_path, **options_of_scene)
    out = str(tmp_path / "o.tif")
    status = cli.main(["sharpen", "--ms", str(ms), "--pan", str(pan), "--out", out, *options])
    return status, capsys.readouterr().err


def test_a_pair_that_lies_well_is_fused_and_its_shift_said(tmp_path, capsys):
    status, message = said(tmp_path, capsys)
    assert status == 0 and "Warning" not in message
    assert re.search(
        r"^PAN lies \.0\d (up|down), \.0\d (left|right) px off MS \(R² (\.9\d|1\.00)\)$", message, re.M
    )


def test_half_a_pan_pixel_is_warned_of_and_more_than_a_ms_pixel_refused(tmp_path, capsys):
    status, message = said(tmp_path, capsys, shift=(1, -2))
    assert status == 0
    assert re.search(
        r"^Warning: PAN lies (1\.0|\.9)\d down, (2\.0|1\.9)\d left px off MS .*--register moves",
        message,
        re.M,
    )
    (tmp_path / "o.tif").unlink()
    status, message = said(tmp_path, capsys, shift=(0, 6))
    assert status == 2 and not (tmp_path / "o.tif").exists()
    assert re.search(
        r"PAN lies \.0\d \w+, (6\.0|5\.9)\d right px off MS .*, more than a MS pixel, .*--shift=0,0 goes on",
        message,
    )
    status, message = said(tmp_path, capsys, "--shift=0,0", shift=(0, 6))
    assert status == 0 and "taken as they lie, as told" in message


def test_a_pan_of_another_place_is_refused_by_every_command_unless_one_goes_on(tmp_path, capsys):
    status, message = said(tmp_path, capsys, other_place=True)
    assert status == 2 and "no common structure" in message and not (tmp_path / "o.tif").exists()
    ms, pan = scene(tmp_path, other_place=True)
    assert cli.main(["compare", "--ms", str(ms), "--pan", str(pan), "--out", str(tmp_path / "d")]) == 2
    assert "no common structure" in capsys.readouterr().err
    assert said(tmp_path, capsys, "--shift=0,0", other_place=True)[0] == 0


def test_a_scene_too_small_to_be_measured_goes_on_and_says_so(tmp_path):
    paths = (
        save(tmp_path / "ms.tif", noise(4, 24, 24), grid(4)),
        save(tmp_path / "pan.tif", noise(1, 96, 96), grid()),
    )
    assert re.match(r"How PAN lies on MS was not measured: .* 0 valid pixels", place(*paths).remark)
    with pytest.raises(
        DataError, match=r"cannot be registered: .* 0 valid pixels, .*; give the shift by hand"
    ):
        place(*paths, register=True)


def test_a_cloud_that_moved_does_not_carry_the_land_with_it(tmp_path):
    ms, pan = scene(tmp_path, shift=(1, 0))
    rows, columns = np.mgrid[:75, :84]
    cloud = 2000.0 * (np.hypot(rows - 40, columns - 40) < 9) * (1 + (rows + columns) % 3)
    for path, fine, off in ((ms, 1, 0), (pan, 4, 12)):  # three MS px to the right in PAN
        with rasterio.open(path, "r+") as file:
            image = (
                file.read()
                + np.roll(cloud.repeat(fine, 0).repeat(fine, 1), off, 1)[: file.height, : file.width]
            )
            file.write(image.clip(0, 65535).astype(np.uint16))
    assert place(ms, pan).look.optics.shift == pytest.approx((1, 0), abs=0.2)


def test_training_moves_ms_as_the_job_does(tmp_path, monkeypatch):
    ms, pan = scene(tmp_path, shift=(3, -2))
    monkeypatch.chdir(tmp_path)
    manifest, root = scene_manifest([ms, pan], tmp_path / "o.tif", QB, {}, (3.0, -2.0), None)
    assert manifest.source.shift == (3.0, -2.0)
    ours = GeoTiffReader(manifest, root).pair.read(slice(0, 20), slice(0, 20)).lrms
    assert torch.equal(ours, open_pair(ms, pan, shift=(3.0, -2.0)).read(slice(0, 20), slice(0, 20)).lrms)


@cache
def wide_land() -> tuple[np.ndarray, np.ndarray]:
    """150 x 156 LRMS px, of which parts can be measured alone, and PAN at full size."""
    gt = render(13, get_sensor("IKONOS"), 640)["gt"][None, ..., : 4 * 152, : 4 * 158]
    pan = torch.einsum("bchw,c->bhw", gt, torch.tensor((0.1, 0.35, 0.35, 0.2)))[0]
    return degrade(gt, (0.25,) * 4, 4)[0, :, 1:-1, 1:-1].numpy(), pan[4:-4, 4:-4].numpy()


def bent(tmp_path, grown):
    """A scene whose PAN lies off by (1.2, -0.8) px in the middle, and by what grows from there to the edges."""
    lrms, image = wide_land()
    middle = (np.array(image.shape) - 1) / 2
    matrix = np.linalg.inv(np.eye(2) + np.array(grown))
    offset = middle - matrix @ (middle + [1.2, -0.8])
    warped = ndimage.affine_transform(image.astype(float), matrix, offset, order=5, mode="reflect")
    ms, pan = (np.rint(2047 * each).clip(1, 4095).astype(np.uint16) for each in (lrms, warped[None]))
    return save(tmp_path / "ms.tif", ms, grid(4, 0.5, 0.5)), save(tmp_path / "pan.tif", pan, grid())


@pytest.mark.parametrize(
    "grown", [((0, 0.005), (-0.005, 0)), ((0.006, 0), (0, -0.004)), ((0.004, 0.003), (0, 0.005))]
)
def test_an_affine_shift_is_found_and_undone(tmp_path, grown):
    ms, pan = bent(tmp_path, grown)
    placed = place(ms, pan, register=True)
    assert len(placed.shift) == 6 and "by an affine map on which" in placed.remark
    np.testing.assert_allclose(np.reshape(placed.shift[2:], (2, 2)) / 4, grown, atol=6e-4)
    assert placed.look.optics.r2 > place(ms, pan, shift=(1.2, -0.8)).look.optics.r2 + 0.005
    assert max(map(abs, placed.look.optics.shift)) < 0.1


def test_a_scene_that_was_only_moved_is_not_bent(tmp_path):
    assert len(place(*bent(tmp_path, ((0, 0), (0, 0))), register=True).shift) == 2


def test_windows_of_a_bent_ms_are_those_of_the_whole_bit_by_bit(tmp_path):
    ms, pan = scene(tmp_path)
    pair = open_pair(ms, pan, shift=(0.7, -1.3, 0.012, 0.02, -0.03, 0.008))
    whole = pair.read(slice(None), slice(None)).lrms
    for rows, columns in (
        (slice(0, 9), slice(50, 71)),
        (slice(33, 34), slice(0, 5)),
        (slice(60, 72), slice(12, 80)),
    ):
        assert torch.equal(pair.read(rows, columns).lrms, whole[..., rows, columns])


def test_an_affine_shift_without_growth_is_a_translation(tmp_path):
    ms, pan = scene(tmp_path)
    straight, slanted = (open_pair(ms, pan, shift=(0.7, -1.3, *more)) for more in ((), (0.0, 0.0, 0.0, 1e-9)))
    assert straight.transform == slanted.transform
    both = [pair.read(slice(2, 70), slice(3, 70)).lrms for pair in (straight, slanted)]
    torch.testing.assert_close(*both, rtol=1e-4, atol=0.05)


def test_a_ms_that_is_stretched_by_hand_lies_where_it_says(tmp_path):
    columns = np.arange(80.0)
    image = np.broadcast_to(100 + 10 * columns, (2, 60, 80)).astype(np.float32)
    ms = save(tmp_path / "ms.tif", image, grid(4, 0.5, 0.5))
    pan = save(tmp_path / "pan.tif", np.ones((1, 240, 320), np.float32), grid())
    pair = open_pair(ms, pan, shift=(0.0, 2.0, 0.0, 0.0, 0.04, 0.08))
    window = pair.read(slice(None), slice(None))
    row, column = 30.0, 40.0
    at = ~grid() @ (pair.transform @ (4 * column + 2.5, 4 * row + 2.5)) - np.array([0.5, 0.5])
    # PAN column x shows MS column k where x = 4k + 2 + 2 + .04 * (its row) + .08 * k
    k = (at[0] - 4 - 0.04 * (at[1] - 2) / 4) / 4.08
    assert window.lrms[0, 0, 30, 40].item() == pytest.approx(100 + 10 * k, abs=0.1)  # Lanczos on a ramp
    assert pair.in_file((row, column))[1] == pytest.approx(k, abs=1e-3)


@pytest.mark.parametrize("down", [5, 6, 7, 9, 12, 16])
def test_every_distance_beyond_a_ms_pixel_is_refused_with_it_and_registered(tmp_path, down):
    ms, pan = scene(tmp_path, shift=(down, 0))
    with pytest.raises(
        DataError, match=r"PAN lies \d+\.\d\d down, \.0\d \w+ px off MS .*, more than a MS pixel"
    ):
        place(ms, pan)
    assert place(ms, pan, register=True).shift == pytest.approx((down, 0), abs=0.1)


@pytest.mark.parametrize("down", [0, 3])
def test_what_pan_shows_of_the_bands_does_not_depend_on_where_it_lies(tmp_path, down):
    assert min(place(*scene(tmp_path, shift=(down, 0))).seen) > 0.8


def test_unlike_units_are_refused_before_a_training(tmp_path, capsys, monkeypatch):
    ms, pan = scene(tmp_path)
    monkeypatch.chdir(tmp_path)
    with rasterio.open(pan) as file:
        image, transform = file.read().astype(np.float32) / 20000, file.transform
    unlike = save(tmp_path / "unlike.tif", image, transform)
    told = [
        "sharpen",
        "--ms",
        str(ms),
        "--pan",
        str(unlike),
        "--out",
        str(tmp_path / "o.tif"),
        "--sensor",
        "QB",
    ]
    assert cli.main([*told, "--adapt", "smoke"]) == 2
    assert "in different units" in capsys.readouterr().err and not (tmp_path / "runs").exists()
