"""The comparison does what its controls say: area, stretch, bands, swipe, errors, spectra, metrics; errors show."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
import torch
from explorers import names, seen, shown, tile
from ipywidgets import IntSlider
from matplotlib import colormaps
from matplotlib.image import imread

from clippan_lib.data import Batch, Scene
from clippan_lib.data.stacks import MemoryStack
from clippan_lib.evaluation.scores import CONVENTION, score
from clippan_lib.explore import base, compare
from clippan_lib.explore.base import STILL, Explorer
from clippan_lib.explore.plot import Plot, built
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


def test_every_control_changes_what_is_shown(view):
    assert set(CHANGES) == set(view.controls)
    for name, (value, needed) in CHANGES.items():
        before = {other: view[other] for other in (name, *needed)}
        view.set(**needed)
        picture = shown(view)
        view.controls[name].value = value
        assert shown(view) != picture, f"{name} has no effect"
        view.set(**before)


def test_a_change_redraws_once_and_several_in_one_go_too(view, monkeypatch):
    drawn = []
    monkeypatch.setattr(type(view), "_draw", lambda self: drawn.append(1))
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
        np.testing.assert_array_equal(seen(view.pictures, panel), expected)


def test_a_move_that_stays_near_sends_no_picture_again(view, monkeypatch):
    sent = view.pictures.tiles
    monkeypatch.setattr(view, "_picture", lambda *_: pytest.fail("made again"))
    view.set(row=60, column=70)
    assert view.pictures.tiles == sent and view.pictures.view[1:] == [44, 52, 32]


def test_the_browser_moves_the_area_the_cross_and_the_swipe_and_is_answered(view):
    view.pictures.wanted = [7, 17.0, 30.6, 32]
    assert view.area == (16, 28, 32) and view.pictures.view == [7, 16, 28, 32]
    assert (view["row"], view["column"]) == (33, 46)
    view.maps.wanted = [3, 0.0, 0.0, 64]
    assert view.area == (0, 0, 64) and view.maps.view == [3, 0, 0, 64]
    view.pictures.spot = [5, 9]
    assert (view["spectrum_row"], view["spectrum_column"]) == (5, 9)
    view.pictures.split = 0.254
    assert view["swipe"] == 25 and view.pictures.split == 0.254


def test_the_cross_is_taken_along_when_the_area_leaves_it(view):
    view.set(spectrum_row=40, spectrum_column=60)
    view.set(row=50)
    assert (view["spectrum_row"], view["spectrum_column"]) == (40, 60)
    view.set(row=0, column=0)
    assert (view["spectrum_row"], view["spectrum_column"]) == (16, 16)


def test_the_pointer_is_told_what_is_under_it(view, monkeypatch):
    told = []
    monkeypatch.setattr(view.pictures, "send", lambda message: told.append(message["text"]))
    view.set(shown=("LRMS", "noisy", "GT"))
    batch = view.scene.read()
    for frame, image, at in ((0, batch.lrms, (9, 17)), (2, batch.gt, (37, 70))):
        view.pictures._handle_custom_msg({"kind": "hover", "frame": frame, "row": 37.4, "column": 70.9}, [])
        values = " ".join(f"{value:.0f}" for value in image[0, :, at[0], at[1]] * 1000)
        assert told[-1] == f"row 37, column 70: {('LRMS', '', 'GT')[frame]} {values} DN"
    view.pictures._handle_custom_msg({"kind": "hover", "frame": 1, "row": 37.4, "column": 70.9}, [])
    view.set(shown=("noisy", "GT"))
    error = (results(view.scene)["noisy"] - batch.gt)[0, :, 37, 70].abs().mean() * 1000
    assert told[-1].endswith(f"; error {error:.3g} DN")


def test_what_a_mode_does_not_use_is_disabled(view):
    swiping = ("left", "right", "swipe")
    assert all(view.controls[name].disabled for name in swiping) and not view.controls["shown"].disabled
    view.set(view="swipe")
    assert not any(view.controls[name].disabled for name in swiping) and view.controls["shown"].disabled


def test_any_three_bands_are_shown(view):
    view.set(red="nir", green="nir", blue="blue")
    assert view.stretch == fit_stretch(view.scene.read().lrms, (3, 3, 0), (1, 99))


def test_a_large_area_is_averaged_down_to_the_screen():
    of = scene(height=512, width=1024)
    view = compare(of, {"dark": of.read().gt * 0.8})
    view.set(column=1000, size=512)
    assert seen(view.pictures).shape == (256, 256, 3)
    stretch = fit_stretch(of.read().lrms, QB.rgb, (1, 99))
    mean = torch.nn.functional.avg_pool2d(of.read().gt[..., 512:] * 0.8, 2)
    np.testing.assert_allclose(seen(view.pictures), stretch.apply(mean) * 255, atol=0.51)


def test_a_swipe_has_both_pictures_and_its_figure_splits_them(view):
    view.set(shown=("noisy", "GT"))
    both = [seen(view.pictures, panel) for panel in (0, 1)]
    view.set(view="swipe", left="noisy", right="GT", swipe=25)
    for number, expected in enumerate(both):
        np.testing.assert_array_equal(seen(view.pictures, 0, number), expected)
    assert view.pictures.split == 0.25
    picture = np.asarray(view.figure().axes[1].images[0].get_array())
    np.testing.assert_array_equal(picture, np.concatenate((both[0][:, :8], both[1][:, 8:]), axis=1))


def test_lrms_is_sent_at_its_own_size_and_pan_is_grey(view):
    view.set(shown=("LRMS", "PAN"))
    lrms, pan = tile(view.pictures, 0), tile(view.pictures, 1)
    assert (lrms["height"], lrms["width"]) == tuple(4 * side for side in lrms["picture"].shape[:2])
    assert (lrms["top"], lrms["left"], lrms["height"]) == (pan["top"], pan["left"], pan["height"])
    assert (pan["picture"][..., 0] == pan["picture"][..., 2]).all()


def test_only_images_that_can_be_wrong_have_an_error_frame(view):
    view.set(shown=("LRMS", "PAN", "dark", "noisy", "GT"))
    assert names(view.maps) == ["dark", "noisy"]
    view.set(against="dark")
    assert names(view.maps) == ["noisy", "GT"]
    view.set(against="nothing")
    assert "error from" in names(view.maps)[0] and not view.maps.bars


def test_errors_are_means_over_bands_in_digital_numbers_on_one_scale(view):
    gt, given = view.scene.read().gt, results(view.scene)
    area = slice(32, 64), slice(48, 80)
    for panel, (title, image) in enumerate(given.items()):
        expected = (image - gt)[0].abs().mean(0) * 1000
        torch.testing.assert_close(view.errors[title], expected[area], rtol=1e-4, atol=1e-2)
        assert view.maps.frames[panel]["note"] == f"error: mean {expected[area].mean():.3g} DN"
        colours = colormaps["magma"]((expected[area] / view._limit("GT")).numpy(), bytes=True)[..., :3]
        assert np.abs(seen(view.maps, panel).astype(int) - colours).max() <= 3
    everywhere = np.stack([((image - gt)[0].abs().mean(0) * 1000).numpy() for image in given.values()])
    assert view._limit("GT") == pytest.approx(np.percentile(everywhere, 99), rel=1e-5)
    (scale,) = view.maps.bars
    assert scale["high"] == f"{view._limit('GT'):.3g}" and "mean over bands (DN)" in scale["label"]


def test_a_difference_to_a_method_replaces_the_error_and_nothing_removes_it(view):
    given = results(view.scene)
    view.set(against="dark")
    expected = (given["noisy"] - given["dark"])[0].abs().mean(0) * 1000
    torch.testing.assert_close(view.errors["noisy"], expected[32:64, 48:80], rtol=1e-4, atol=1e-2)
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


def test_stars_mark_the_best_where_there_is_something_to_compare(view):
    assert "* best" in view.numbers.value
    view.set(shown=("dark", "GT"))
    assert "*" not in view.numbers.value.replace(CONVENTION, "")


def test_an_error_in_a_redraw_is_shown_and_raised_and_goes_when_it_is_over(view):
    picture = shown(view)
    with pytest.raises(ValueError, match="nothing is shown"):
        view.controls["shown"].value = ()
    assert "ValueError: nothing is shown" in view.alarm.value and shown(view) == picture
    with pytest.raises(ValueError, match="must rise"):
        view.set(shown=("GT",), stretch=(50, 50))
    assert "percentiles (50.0, 50.0) must rise" in view.alarm.value
    view.set(stretch=[1, 99], shown=["GT"])  # as people type them
    assert view.alarm.value == "" and view["shown"] == ("GT",)


def test_numbers_that_failed_are_made_at_the_next_redraw(view, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(view, "_numbers", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            view.set(row=20)
    assert "ZeroDivisionError" in view.alarm.value
    view.redraw()
    assert view.alarm.value == "" and "rows 4 to 35" in view.numbers.value


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
    assert (still[-33:, ..., :3] < 0.5).any()  # the sentence below


def test_the_exported_figure_is_one_of_its_own_with_everything_in_it(view):
    first, second = view.figure(), view.figure()
    assert first is not second
    assert not first.findobj(lambda artist: artist.get_animated())
    view.set(row=10)
    assert "rows 32 to 63" in first.axes[0].texts[0].get_text()


def test_a_plot_without_moving_parts_is_drawn_whole():
    class Bare(Explorer):
        def __init__(self):
            self.plot = Plot(self._build)
            super().__init__({"number": IntSlider(1, 0, 9)}, [self.plot.widget])

        def _build(self):
            figure = new_figure(1.0)
            text = figure.text(0.5, 0.5, "")
            return figure, lambda: text.set_text(str(self["number"]))

        def _draw(self):
            self.plot.draw()

        def _print(self):
            return built(self._build)[0]

    view = Bare()
    picture = shown(view)
    view.set(number=2)
    assert shown(view) != picture
    assert view.numbers.value == ""


def test_the_table_of_scores_is_a_frame_for_notebooks(view):
    assert isinstance(view.scores, pd.DataFrame) and list(view.scores.index) == ["dark", "noisy"]
