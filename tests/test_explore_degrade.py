"""The degradation explorer shows what `mtf` does, at every sensor, gain, ratio and phase."""

import numpy as np
import pytest
import torch
from explorers import names, seen, shown

from clippan_lib.data import Batch, Scene
from clippan_lib.data.stacks import MemoryStack
from clippan_lib.explore import degrade
from clippan_lib.mtf import degrade as degrade_image
from clippan_lib.mtf import filter_image, mtf_kernel, upsample
from clippan_lib.sensors import SENSORS, get_sensor

QB = get_sensor("QB")
CHANGES = {
    "sensor": "WV2",
    "band": "nir",
    "gain": 0.6,
    "ratio": 3,
    "phase": 0,
    "row": 90,
    "column": 90,
    "size": 128,
}


def scene(side=192, has_gt=True):
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(1, 4, side, side + 10, generator=generator)
    lrms = torch.rand(1, 4, side // 4, side // 4, generator=generator)
    index = torch.zeros(1, dtype=torch.int64)
    batch = Batch(lrms, gt[:, :1], gt if has_gt else None, index)
    return Scene(
        MemoryStack(("noise",), QB, "full", side // 4, side // 4, has_gt, 1000.0, lambda _: batch), 0
    )


@pytest.fixture(scope="module")
def view():
    return degrade(scene())


@pytest.fixture(autouse=True)
def at_first(view):
    view.set(sensor="QB", band="blue", ratio=4, phase=2, gain=0.34, row=96, column=96, size=64)


def whole(view, gain, ratio):
    """The degraded image, cropped to what the ratio divides."""
    rows, columns = (side // ratio * ratio for side in view.image.shape[-2:])
    return degrade_image(view.image[..., :rows, :columns], (gain,), ratio)


def test_every_control_changes_what_is_shown(view):
    assert set(CHANGES) == set(view.controls)
    for name, value in CHANGES.items():
        picture, before = shown(view), view[name]
        view.controls[name].value = value
        assert shown(view) != picture, f"{name} has no effect"
        view.controls[name].value = before


@pytest.mark.parametrize(("ratio", "row"), [(2, 96), (3, 0), (4, 96), (5, 191), (8, 96)])
def test_the_area_is_that_part_of_the_whole_image_degraded(view, ratio, row):
    view.set(ratio=ratio, row=row)
    top, left, size = view.area
    assert top % ratio == left % ratio == size % ratio == 0
    low = whole(view, 0.34, ratio)
    part = [slice(at // ratio, (at + size) // ratio) for at in (top, left)]
    torch.testing.assert_close(view.part("degraded"), low[..., part[0], part[1]], atol=1e-5, rtol=0)
    lms = upsample(low, ratio, "replicate")[..., top : top + size, left : left + size]
    torch.testing.assert_close(view.part("interpolated again"), lms, atol=1e-5, rtol=0)


def test_another_phase_keeps_other_pixels_of_the_same_blurred_image(view):
    view.set(phase=0)
    top, left, size = view.area
    blurred = filter_image(view.image, mtf_kernel((0.34,), 4))
    assert (top, left, size) == (64, 64, 64)
    torch.testing.assert_close(view.part("degraded"), blurred[..., 64:128:4, 64:128:4], atol=1e-5, rtol=0)


def test_a_wrong_phase_shifts_the_image_and_costs_error():
    ramp = torch.linspace(0, 1, 192).expand(1, 4, 192, 192).contiguous()
    batch = Batch(ramp[..., :48, :48], ramp[:, :1], ramp, torch.zeros(1, dtype=torch.int64))
    view = degrade(Scene(MemoryStack(("ramp",), QB, "full", 48, 48, True, 1000.0, lambda _: batch), 0))
    slope, (_, left, size) = 1000 / 191, view.area
    # The kernel sums to a little under 1, so the image is also a little too dark
    dark = (view.values["sum of the kernel"] - 1) * (left + (size - 1) / 2) * slope
    assert view.values["mean error (DN)"] == pytest.approx(-dark, rel=0.05)
    for phase in (0, 1, 3):
        view.set(phase=phase)
        assert view.values["mean error (DN)"] == pytest.approx(abs((phase - 2) * slope + dark), rel=0.01)


def test_the_kernel_is_that_of_mtf_and_its_gain_is_marked_at_nyquist(view):
    view.set(gain=0.3, ratio=2)
    torch.testing.assert_close(torch.from_numpy(view.kernel), mtf_kernel((0.3,), 2)[0])
    assert view.values["gain at Nyquist"] == pytest.approx(0.3, abs=0.03)
    assert view.values["sum of the kernel"] == pytest.approx(float(mtf_kernel((0.3,), 2).sum()))
    mark = view.figure().axes[-1].lines[1]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (0.25, 0.3)


def test_a_new_ratio_takes_the_part_at_hand_to_its_own_grid(view):
    view.set(row=60, column=64)
    for ratio in (3, 5, 7, 4):
        view.set(ratio=ratio)
        assert all(each % ratio == 0 for each in view._cover[:4])


@pytest.mark.parametrize("name", SENSORS)
def test_a_sensor_brings_its_bands_gains_and_ratio(view, name):
    sensor = SENSORS[name]
    view.set(sensor=name)
    assert view.controls["band"].options == (*sensor.bands, "PAN")
    assert (view["gain"], view["ratio"], view["phase"]) == (sensor.gnyq[0], sensor.ratio, sensor.ratio // 2)
    view.set(band="PAN")
    assert view["gain"] == sensor.gnyq_pan


def test_a_new_ratio_sets_the_phase_of_the_package_in_one_redraw(view, monkeypatch):
    drawn = []
    monkeypatch.setattr(type(view), "_draw", lambda self: drawn.append(1))
    view.controls["ratio"].value = 6
    assert view["phase"] == 3 and view.controls["phase"].max == 5 and len(drawn) == 1
    view.set(sensor="WV3", band="red", ratio=2, phase=0)
    assert (view["ratio"], view["phase"], view["gain"]) == (2, 0, 0.365) and len(drawn) == 2


def test_a_move_that_stays_near_computes_nothing_and_shows_the_same(view, monkeypatch):
    view.set(row=100, column=120)
    expected = {name: view.part(name) for name in ("original", "degraded", "interpolated again", "error")}
    view.set(row=96, column=96)
    sent = view.pictures.tiles
    monkeypatch.setattr(view, "_degrade", lambda _: pytest.fail("computed again"))
    view.pictures.wanted = [1, 68.0, 88.0, 64]
    assert view.area == (68, 88, 64) and view.pictures.tiles == sent
    for name, part in expected.items():
        torch.testing.assert_close(view.part(name), part)


def test_the_frames_show_the_parts(view):
    assert names(view.pictures) == ["original", "degraded by 4", "interpolated again", "its error"]
    for frame, name in ((0, "original"), (1, "degraded")):
        picture = (view._stretch.apply(view.part(name)) * 255).round()
        np.testing.assert_array_equal(seen(view.pictures, frame), picture.astype(np.uint8))
    mean = view.part("error").mean()
    assert view.pictures.frames[3]["note"] == f"mean {mean:.3g} DN"


def test_the_pointer_is_told_what_is_under_it(view, monkeypatch):
    told = []
    monkeypatch.setattr(view.pictures, "send", lambda message: told.append(message["text"]))
    view.pictures._handle_custom_msg({"kind": "hover", "frame": 1, "row": 70.5, "column": 81.0}, [])
    values = whole(view, 0.34, 4)[0, :, 17, 20] * 1000
    assert told == [f"row 70, column 81: degraded {' '.join(f'{each:.0f}' for each in values)} DN"]
    view.pictures._handle_custom_msg({"kind": "hover", "frame": 0, "row": -3.0, "column": 5.0}, [])
    assert told[-1] == ""


def test_impossible_values_are_refused(view):
    with pytest.raises(ValueError, match="phase cannot be 4: it lies between 0 and 3"):
        view.set(phase=4)
    with pytest.raises(ValueError, match="sensor cannot be 'Sentinel': choose from"):
        view.set(sensor="Sentinel")


def test_without_truth_the_lrms_is_degraded_and_a_small_one_refused():
    of = scene(256, has_gt=False)
    assert degrade(of).image.shape == (1, 4, 64, 64)
    with pytest.raises(ValueError, match="12×12 px: give one of 16 or more"):
        degrade(scene(48, has_gt=False))


def test_the_smallest_test_area_is_shown_whole():
    view = degrade(scene(128, has_gt=False))
    view.set(ratio=2, gain=0.1)
    assert view.area == (0, 0, 32) and view.part("interpolated again").shape == (1, 4, 32, 32)
    assert view._repr_mimebundle_() is not None


def test_the_numbers_stand_below_the_picture(view):
    assert "mean error (DN)" in view.numbers.value and "asked for 0.340 at 0.125" in view.numbers.value


def test_a_viewer_without_widgets_gets_a_still_image(view):
    bundle = view._repr_mimebundle_()
    assert {"image/png", "text/plain"} <= set(bundle)
