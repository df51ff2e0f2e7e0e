"""The comparison does what its controls say: area, stretch, bands, swipe, errors, spectra, metrics; errors show."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
import torch
from ipywidgets import IntSlider
from matplotlib.image import imread

from clippan_lib.data import Batch, Scene
from clippan_lib.data.stacks import MemoryStack
from clippan_lib.evaluation.scores import CONVENTION, score
from clippan_lib.explore import base, compare
from clippan_lib.explore.base import STILL, Explorer
from clippan_lib.figures import fit_stretch
from clippan_lib.figures.style import new_figure
from clippan_lib.fusion import get_method
from clippan_lib.metrics import TABLES
from clippan_lib.mtf import degrade
from clippan_lib.sensors import get_sensor

QB = get_sensor("QB")
HEIGHT, WIDTH = 96, 128
# One other value of each control, and what must be so before it has an effect
CHANGES = {
    "view": ("swipe", {}),
    "shown": (("LRMS", "PAN"), {}),
    "left": ("PAN", {"view": "swipe"}),
    "right": ("LRMS", {"view": "swipe"}),
    "swipe": (20, {"view": "swipe"}),
    "row": (16, {}),
    "column": (100, {}),
    "size": (64, {}),
    "red": ("nir", {}),
    "green": ("nir", {}),
    "blue": ("nir", {}),
    "stretch": ((10.0, 80.0), {}),
    "against": ("noisy", {}),
    "spectrum_row": (40, {}),
    "spectrum_column": (70, {}),
}


def scene(has_gt=True, resolution="full", height=HEIGHT, width=WIDTH):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 4, height // 8, width // 8, generator=generator)
    gt = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0.05, 0.95)
    gt = (gt + 0.05 * torch.rand(gt.shape, generator=generator)).clamp(0, 1)
    pan = gt.mean(1, keepdim=True)
    batch = Batch(degrade(gt, QB.gnyq, 4), pan, gt if has_gt else None, torch.zeros(1, dtype=torch.int64))
    stack = MemoryStack(
        ("a scene",), QB, resolution, height // 4, width // 4, has_gt, 1000.0, lambda _: batch
    )
    return Scene(stack, 0)


def results(of):
    lrms = of.read().lrms
    dark = torch.nn.functional.interpolate(lrms, scale_factor=4) * 0.8
    generator = torch.Generator().manual_seed(1)
    return {"dark": dark, "noisy": (dark + 0.2 * torch.rand(dark.shape, generator=generator)).clamp(0, 1)}


@pytest.fixture(scope="module")
def made():
    of = scene()
    explorer = compare(of, results(of))
    # The smallest area, rows 32 to 63 and columns 48 to 79
    explorer.set(size=32)
    return explorer, {name: explorer[name] for name in explorer.controls}


@pytest.fixture
def view(made):
    explorer, first = made
    explorer.set(**first)
    return explorer


def seen(view, panel=0):
    """What a panel of the live figure holds, as bytes."""
    images = [ax.images[0] for ax in view._live[1].figure.axes if ax.images]
    return np.asarray(images[panel].get_array())


def test_every_control_changes_the_picture(view):
    assert set(CHANGES) == set(view.controls)
    for name, (value, needed) in CHANGES.items():
        before = {other: view[other] for other in (name, *needed)}
        view.set(**needed)
        picture = view.picture.value
        view.controls[name].value = value
        assert view.picture.value != picture, f"{name} has no effect"
        view.set(**before)


def test_a_change_redraws_once_and_several_in_one_go_too(view, monkeypatch):
    drawn = []
    monkeypatch.setattr(type(view), "_render", lambda self: drawn.append(1) or b"png")
    view.controls["row"].value = 50
    assert len(drawn) == 1
    view.set(row=60, column=70, red="nir")
    assert len(drawn) == 2


def test_the_area_is_centred_and_kept_inside_on_whole_lrms_pixels(view):
    assert view.area == (32, 48, 32)
    view.set(row=49, column=66)
    assert view.area == (32, 48, 32)  # 33 and 50 are inside LRMS pixels
    view.set(row=0, column=WIDTH - 1)
    assert view.area == (0, WIDTH - 32, 32)
    view.set(size=96)
    assert view.area == (0, 32, 96)


def test_panels_show_the_same_area_under_one_stretch_fitted_to_lrms(view):
    batch = view.scene.read()
    stretch = fit_stretch(batch.lrms, QB.rgb, (1, 99))
    assert view.stretch == stretch
    for panel, image in enumerate((*results(view.scene).values(), batch.gt)):
        expected = (stretch.apply(image[..., 32:64, 48:80]) * 255).round().astype(np.uint8)
        np.testing.assert_array_equal(seen(view, panel), expected)


def test_any_three_bands_are_shown(view):
    view.set(red="nir", green="nir", blue="blue")
    assert view.stretch == fit_stretch(view.scene.read().lrms, (3, 3, 0), (1, 99))


def test_a_large_area_is_averaged_down_to_the_screen():
    of = scene(height=512, width=512)
    view = compare(of, {"dark": of.read().gt * 0.8})
    view.set(size=512)
    assert seen(view).shape == (256, 256, 3)
    stretch = fit_stretch(of.read().lrms, QB.rgb, (1, 99))
    mean = torch.nn.functional.avg_pool2d(of.read().gt * 0.8, 2)
    np.testing.assert_allclose(seen(view), stretch.apply(mean) * 255, atol=0.51)


def test_a_swipe_splits_at_its_column_in_picture_and_error(view):
    view.set(view="swipe", left="noisy", right="GT", swipe=25)
    swiped, error = seen(view), seen(view, 1)
    view.set(view="side by side", shown=("noisy", "GT"))
    left, right = seen(view), seen(view, 1)
    np.testing.assert_array_equal(swiped, np.concatenate((left[:, :8], right[:, 8:]), axis=1))
    nothing = (0, 0, 3, 255)  # magma's black: GT differs from itself nowhere
    assert (error[:, 8:] == nothing).all() and not (error[:, :8] == nothing).all()


def test_lrms_is_enlarged_to_squares_of_the_ratio(view):
    view.set(shown=("LRMS", "PAN"))
    np.testing.assert_array_equal(seen(view)[:4, :4], np.broadcast_to(seen(view)[0, 0], (4, 4, 3)))
    assert (seen(view, 1)[..., 0] == seen(view, 1)[..., 2]).all()  # PAN is grey


def test_errors_are_means_over_bands_in_digital_numbers_on_one_scale(view):
    gt, given = view.scene.read().gt, results(view.scene)
    for title, image in given.items():
        expected = (image - gt)[0].abs().mean(0) * 1000
        torch.testing.assert_close(view.errors[title], expected, rtol=1e-4, atol=1e-2)
    everywhere = np.stack([view.errors[title].numpy() for title in given])
    assert view._limit("GT") == pytest.approx(np.percentile(everywhere, 99))
    bar = next(ax for ax in view._live[1].figure.axes if "mean over bands (DN)" in ax.get_xlabel())
    assert bar.get_xlim() == pytest.approx((0, view._limit("GT")))


def test_a_difference_to_a_method_replaces_the_error_and_nothing_removes_it(view):
    given = results(view.scene)
    view.set(against="dark")
    expected = (given["noisy"] - given["dark"])[0].abs().mean(0) * 1000
    torch.testing.assert_close(view.errors["noisy"], expected, rtol=1e-4, atol=1e-2)
    view.set(against="nothing")
    assert view.errors == {}


def test_spectra_are_the_pixels_of_the_images(view):
    view.set(shown=("LRMS", "PAN", "noisy", "GT"), spectrum_row=37, spectrum_column=70)
    batch = view.scene.read()
    assert list(view.spectra) == ["LRMS", "noisy", "GT"]
    assert list(view.spectra.index) == list(QB.bands)
    np.testing.assert_allclose(view.spectra["GT"], batch.gt[0, :, 37, 70] * 1000, rtol=1e-6)
    np.testing.assert_allclose(view.spectra["LRMS"], batch.lrms[0, :, 9, 17] * 1000, rtol=1e-6)


def test_scores_are_those_of_the_visible_area_alone(view):
    batch, given = view.scene.read(), results(view.scene)
    rows, columns = slice(32, 64), slice(48, 80)
    area = Batch(
        batch.lrms[..., 8:16, 12:20], batch.pan[..., rows, columns], batch.gt[..., rows, columns], batch.index
    )
    for title, image in given.items():
        expected = score(image[..., rows, columns], area, view.scene)
        assert view.scores.loc[title].to_dict() == pytest.approx(expected, rel=1e-6)
    assert "rows 32 to 63, columns 48 to 79" in view.numbers.value
    view.set(row=16)
    assert "rows 0 to 31" in view.numbers.value and CONVENTION in view.numbers.value


def test_scores_follow_what_the_scene_allows():
    of = scene(has_gt=False)
    assert list(compare(of, results(of)).scores) == [*TABLES[5:]]
    of = scene(resolution="reduced")
    assert list(compare(of, results(of)).scores) == [*TABLES[:5]]
    of = scene(has_gt=False, resolution="reduced")
    assert "No metrics" in compare(of, results(of)).numbers.value


def test_the_metrics_wait_until_the_controls_rest_where_a_browser_can_drag_them(view, monkeypatch):
    class Loop:
        waiting = []

        def call_later(self, seconds, call):
            self.waiting.append((seconds, call))
            return self

        def cancel(self):
            self.waiting.pop()

    monkeypatch.setattr(base.asyncio, "get_running_loop", Loop)
    view.set(row=20)
    view.set(row=21)
    assert "opacity" in view.numbers.value and "rows 32" in view.numbers.value
    ((seconds, call),) = Loop.waiting
    call()
    assert seconds == 0.3 and "rows 4 to 35" in view.numbers.value and "opacity" not in view.numbers.value


def test_a_method_is_run_on_the_scene(view):
    method = get_method("exp", QB, 4)
    batch = view.scene.read()
    explorer = compare(view.scene, {"EXP": method})
    torch.testing.assert_close(explorer.images["EXP"], method(batch.lrms, batch.pan).clamp(0, 1)[0])


def test_an_error_in_a_redraw_is_shown_and_raised_and_goes_when_it_is_over(view):
    picture = view.picture.value
    with pytest.raises(ValueError, match="nothing is shown"):
        view.controls["shown"].value = ()
    assert "ValueError: nothing is shown" in view.alarm.value and view.picture.value == picture
    with pytest.raises(ValueError, match="must rise"):
        view.set(shown=("GT",), stretch=(50, 50))
    assert "percentiles (50.0, 50.0) must rise" in view.alarm.value
    view.set(stretch=[1, 99], shown=["GT"])  # as people type them
    assert view.alarm.value == "" and view["shown"] == ("GT",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"red": "purple"}, "red cannot be 'purple': choose from .*'nir'"),
        ({"size": 4096}, "size cannot be 4096: it lies between 32 and 96"),
        ({"row": 50, "column": -1}, "column cannot be -1"),
        ({"zoom": 2}, r"no control \['zoom'\]; there are: view"),
    ],
)
def test_a_value_that_a_control_does_not_take_is_refused_and_nothing_changes(view, values, message):
    before = {name: view[name] for name in view.controls}
    with pytest.raises(ValueError, match=message):
        view.set(**values)
    assert {name: view[name] for name in view.controls} == before


def test_what_does_not_fit_the_scene_is_refused():
    of = scene()
    for given, message in (
        ({}, "at least one method"),
        ({"GT": results(of)["dark"]}, "none named"),
        ({"small": results(of)["dark"][..., :64]}, "small has shape"),
        ({"broken": results(of)["dark"] * float("nan")}, "broken has .* not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(of, given)
    with pytest.raises(ValueError, match="sides of at least 32"):
        compare(scene(height=24), {"dark": scene(height=24).read().gt})


def test_a_viewer_without_widgets_gets_a_still_image_and_a_sentence(view):
    bundle = view._repr_mimebundle_()
    still = imread(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert bundle["text/plain"] == STILL
    assert "application/vnd.jupyter.widget-view+json" in bundle
    live = imread(io.BytesIO(view.picture.value))
    assert still.shape[0] == live.shape[0] + 33 and still.shape[1] == live.shape[1]
    assert (still[-33:, ..., :3] < 0.5).any()  # the sentence below


def test_the_picture_is_the_figure_pixel_by_pixel(view):
    live = view._live[1]
    expected = np.asarray(live.canvas.buffer_rgba())[..., :3]
    decoded = imread(io.BytesIO(view.picture.value))[..., :3]
    np.testing.assert_array_equal((decoded * 255).round().astype(np.uint8), expected)


def test_the_exported_figure_is_one_of_its_own_with_everything_in_it(view):
    first, second = view.figure(), view.figure()
    assert first is not second
    assert not first.findobj(lambda artist: artist.get_animated())
    view.set(row=10)
    assert "rows 32 to 63" in first.axes[0].texts[0].get_text()


def test_an_explorer_without_moving_parts_is_drawn_whole():
    class Bare(Explorer):
        def _build(self):
            figure = new_figure(1.0)
            text = figure.text(0.5, 0.5, "")
            return figure, lambda: text.set_text(str(self["number"]))

    view = Bare({"number": IntSlider(1, 0, 9)})
    picture = view.picture.value
    view.set(number=2)
    assert view.picture.value != picture
    assert view.numbers.value == ""


def test_the_table_of_scores_is_a_frame_for_notebooks(view):
    assert isinstance(view.scores, pd.DataFrame) and list(view.scores.index) == ["dark", "noisy"]
