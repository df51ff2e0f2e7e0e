"""What the figures must show: one stretch, one error scale, the right box, legible text, plain refusals."""

import math
from collections.abc import Callable
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from clippan_lib import figures as fig
from clippan_lib.figures.maps import index_maps
from clippan_lib.figures.style import COLUMN, WIDTH
from clippan_lib.figures.tables import decimals, header
from clippan_lib.optics import Optics, Spectrum
from clippan_lib.sensors import get_sensor

QB = get_sensor("QB")
BETTER = {"MPSNR": "high", "ERGAS": "low", "seconds": "low"}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


LRMS, PAN, GT = noise(1, 4, 6, 9), noise(1, 1, 24, 36), noise(1, 4, 24, 36)
RESULTS = {"EXP": (GT * 0.5).clamp(0, 1), "PNN, with language": (GT + 0.1).clamp(0, 1)}
HISTORY = pd.DataFrame({"iteration": [0, 10, 20], "total": [3.0, 2.0, 1.0], "spectral": [1.0, 0.1, 0.01]})
TYPES = torch.tensor([0, 1, 2, 2])
PLANE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
GAINS = pd.DataFrame({"MPSNR": [1.0, 2, 3, 4, 5], "ERGAS": [-0.1, -0.2, 0.1, 0.0, -0.3]})
SCORES, SPEED = (
    pd.Series({"MTF-GLP-HPM-R": 0.9, "PNN": 0.8}, name="Q2n"),
    pd.Series({"MTF-GLP-HPM-R": 9, "PNN": 0.1}),
)
OPTICS = Optics(
    gnyq=(0.3, 0.2, 0.25, 0.1),
    interval=((0.2, 0.4), (0.15, 0.25), (0.2, 0.35), (0.06, 0.16)),
    common=0.25,
    shift=(0.5, -1.0),
    shift_interval=((0.4, 0.6), (-1.1, -0.9)),
    r2=0.9,
    curve=((0.03, 0.5), (0.25, 0.9), (0.6, 0.7)),
    reach=4,
)
SPECTRUM = Spectrum(np.array([0.1, 0.2, 0.3]), np.array([100.0, 1.0, 0.1]))
DELTA = torch.zeros(4, 5, 5).index_put((torch.arange(4), torch.tensor(2), torch.tensor(2)), torch.tensor(1.0))

FIGURES: dict[str, Callable[[], Figure]] = {
    "show_images": lambda: fig.show_images({"LRMS": LRMS, "PAN": PAN, "GT": GT[0]}, QB, title="a scene"),
    "zooms without gt": lambda: fig.zooms(RESULTS, LRMS, PAN, QB),
    "zooms with gt": lambda: fig.zooms(RESULTS, LRMS, PAN, QB, gt=GT, columns=3),
    "patch_grid": lambda: fig.patch_grid(noise(3, 4, 5, 5), noise(3, 1, 20, 20), QB, noise(3, 4, 20, 20)),
    "split_map": lambda: fig.split_map(GT, {"train": [(0, 0, 24, 20)], "test": [(0, 20, 24, 16)]}, QB),
    "curves": lambda: fig.curves(
        {"a": HISTORY, "b": [HISTORY, HISTORY]}, ["total", "spectral"], title="Stage I"
    ),
    "curves in a column": lambda: fig.curves(
        {"with language and a long name": [HISTORY, HISTORY]},
        ["total", "spectral"],
        smooth=2,
        title="A title that is wider than a single column of a paper",
        width=COLUMN,
    ),
    "quality_and_speed": lambda: fig.quality_and_speed(SCORES, SPEED),
    "quality_and_speed in a column": lambda: fig.quality_and_speed(SCORES, SPEED, width=COLUMN),
    "scatter_embeddings": lambda: fig.scatter_embeddings(PLANE, PLANE, TYPES, scenes=TYPES),
    "similarity_matrix": lambda: fig.similarity_matrix(torch.eye(3), torch.eye(3) * 0.5),
    "mtf_kernels": lambda: fig.mtf_kernels(DELTA, QB),
    "optics_curve": lambda: fig.optics_curve(replace(OPTICS, r2=0.5), QB),
    "power_spectra": lambda: fig.power_spectra({"LRMS": SPECTRUM, "PAN of a real scene": SPECTRUM}, 4, "Two"),
    "histograms": lambda: fig.histograms(LRMS, PAN, QB),
    "paired_differences": lambda: fig.paired_differences({"language − none": GAINS}, BETTER),
    "paired_differences in a column": lambda: fig.paired_differences(
        {f"L_unsup + L_ship + L_d vs L_unsup + L_{name}": GAINS * 1e-4 for name in "abcdefgh"},
        BETTER,
        title="Full resolution: change by the language term",
        width=COLUMN,
    ),
}


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in texts(figure))


@pytest.mark.parametrize("name", FIGURES)
def test_every_text_is_legible_and_inside_the_figure_and_the_readers_settings_neither_matter_nor_change(name):
    with mpl.rc_context({"font.size": 3, "xtick.labelsize": 3, "legend.fontsize": 3}):
        before = dict(mpl.rcParams)
        figure = FIGURES[name]()
        assert dict(mpl.rcParams) == before
    ticks = {label for ax in figure.axes for label in (*ax.get_xticklabels(), *ax.get_yticklabels())}
    for text in texts(figure):
        assert text.get_fontsize() >= 10, text
        # Ticks beyond the limits of an axis exist and are not drawn.
        if text not in ticks:
            box, frame = text.get_window_extent(), figure.bbox
            assert box.x0 > -2 and box.y0 > -2 and box.x1 < frame.x1 + 2 and box.y1 < frame.y1 + 2, text


@pytest.mark.parametrize(("width", "inches"), [(WIDTH, 7.0), (COLUMN, 3.3)])
def test_ten_points_become_seven_where_a_paper_shrinks_a_figure_to_its_columns(width, inches):
    assert fig.curves({"run": HISTORY}, ["total"], width=width).get_figwidth() == width
    assert 10 * inches / width >= 7


def test_three_curves_stand_side_by_side_on_a_page_and_two_in_a_column():
    for width, across in ((WIDTH, 3), (COLUMN, 2)):
        axes = fig.curves({"run": HISTORY}, ["total", "spectral"] * 2, width=width).axes
        assert len({round(ax.get_position().x0, 3) for ax in axes}) == across


def test_a_figure_shows_itself_in_a_notebook_as_png():
    assert FIGURES["similarity_matrix"]()._repr_png_().startswith(b"\x89PNG\r\n\x1a\n")


# stretch


def test_the_stretch_shows_the_percentiles_as_black_and_white():
    ramp = torch.arange(101).reshape(1, 1, 101) / 200
    stretch = fig.fit_stretch(ramp, (0,), (10, 60))
    assert stretch.lo == pytest.approx((0.05,)) and stretch.hi == pytest.approx((0.3,))
    shown = stretch.apply(ramp)
    assert shown.shape == (1, 101, 3)
    assert shown[0, 10] == pytest.approx([0] * 3) and shown[0, 60] == pytest.approx([1] * 3)
    assert shown[0, 35] == pytest.approx([0.5] * 3)
    assert shown[0, 0] == pytest.approx([0] * 3) and shown[0, 100] == pytest.approx([1] * 3)


def test_each_displayed_band_has_its_own_limits_in_the_order_asked():
    image = torch.stack([torch.full((3, 5), level).mul(torch.linspace(0, 1, 5)) for level in (0.2, 0.4, 0.8)])
    stretch = fig.fit_stretch(image, (2, 0, 1), (0, 100))
    assert stretch.hi == pytest.approx((0.8, 0.2, 0.4))
    assert np.allclose(stretch.apply(image[None].double()), np.linspace(0, 1, 5)[None, :, None], atol=1e-6)


def test_a_constant_image_can_be_stretched():
    assert np.isfinite(
        fig.fit_stretch(torch.full((1, 4, 4), 0.3), (0,)).apply(torch.full((1, 4, 4), 0.3))
    ).all()


def test_a_stretch_refuses_limits_out_of_order_and_counts_that_differ():
    with pytest.raises(ValueError, match="must lie below"):
        fig.Stretch((0,), (0.5,), (0.5,))
    with pytest.raises(ValueError, match="give one or three of each"):
        fig.Stretch((0, 1), (0.0, 0.0), (1.0, 1.0))
    with pytest.raises(ValueError, match="percentiles"):
        fig.fit_stretch(GT, QB.rgb, (99, 1))
    with pytest.raises(ValueError, match="not all among the image's 1"):
        fig.fit_stretch(PAN, QB.rgb)
    with pytest.raises(ValueError, match="the image has only 1"):
        fig.fit_stretch(GT, QB.rgb).apply(PAN)


def test_a_batch_and_an_image_with_nan_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 4, 24, 36\): give one image"):
        fig.fit_stretch(GT.repeat(2, 1, 1, 1), QB.rgb)
    broken = GT.clone()
    broken[0, 1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="PNN has 1 values that are not finite"):
        fig.show_images({"GT": GT, "PNN": broken}, QB)


# error map and box


def test_the_error_map_is_the_mean_over_bands():
    gt = torch.zeros(2, 3, 5)
    hrms = torch.stack([torch.full((3, 5), 0.1), torch.full((3, 5), -0.3)])
    assert torch.allclose(fig.error_map(hrms, gt), torch.full((3, 5), 0.2, dtype=torch.float64))
    assert fig.error_map(GT, GT).max() == 0


def test_the_error_table_has_mean_and_percentile_of_each_map_in_digital_numbers():
    image = torch.zeros(1, 2, 1, 100)
    image[..., 50:] = 0.2
    found = fig.error_table({"half": image, "truth": image * 0}, image * 0, 1000)
    assert np.allclose(found, [[100, 200], [0, 0]]) and [*found.index] == ["half", "truth"]


def test_an_error_map_of_unequal_shapes_is_refused():
    with pytest.raises(ValueError, match="differ"):
        fig.error_map(GT, GT[..., :-1])


def test_the_box_is_where_the_detail_is():
    image = torch.zeros(2, 20, 30)
    image[:, 9:13, 17:21] = noise(2, 4, 4) + 1
    top, left, size = fig.pick_box(image, 8)
    assert size == 8 and top <= 8 and top + 8 >= 13 and left <= 16 and left + 8 >= 21
    top, left, _ = fig.pick_box(image, 8, step=4)
    assert (top, left) == (8, 16)


def test_the_box_of_an_image_without_detail_is_the_first_off_the_border():
    assert fig.pick_box(torch.full((1, 9, 12), 0.7), 4) == (1, 1, 4)


def test_a_box_at_a_corner_with_detail_stays_off_the_border_where_there_is_room():
    image = torch.zeros(1, 16, 24)
    image[:, 10:, 18:] = noise(1, 6, 6) + 1
    assert fig.pick_box(image, 8, step=4) == (4, 12, 8)
    assert fig.pick_box(image, 16, step=4) == (0, 4, 16)
    assert fig.pick_box(image[..., :16], 16) == (0, 0, 16)


@pytest.mark.parametrize(("size", "step"), [(25, 1), (0, 1), (4, 0)])
def test_a_box_that_does_not_fit_is_refused(size, step):
    with pytest.raises(ValueError, match="does not fit"):
        fig.pick_box(PAN, size, step)


# images side by side


def test_images_of_any_resolution_share_one_stretch_and_one_extent():
    stretch = fig.fit_stretch(LRMS, QB.rgb)
    left, middle, right = fig.show_images({"LRMS": LRMS, "PAN": PAN, "bright": GT * 0.9}, QB).axes
    assert np.allclose(left.images[0].get_array(), stretch.apply(LRMS))
    assert np.allclose(right.images[0].get_array(), stretch.apply(GT * 0.9))
    assert {tuple(ax.images[0].get_extent()) for ax in (left, middle, right)} == {(0, 36, 24, 0)}
    assert np.ptp(np.asarray(middle.images[0].get_array()), axis=2).max() == 0
    assert left.get_title() == "LRMS\n6×9, 4 bands" and middle.get_title() == "PAN\n24×36, 1 band"


def test_a_stretch_that_is_given_is_used():
    stretch = fig.Stretch(QB.rgb, (0.2,) * 3, (0.4,) * 3)
    (ax,) = fig.show_images({"GT": GT}, QB, stretch).axes
    assert np.allclose(ax.images[0].get_array(), stretch.apply(GT))


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        ({}, "no images"),
        ({"PAN": PAN}, "none of"),
        ({"GT": GT, "odd": noise(1, 3, 24, 36)}, "odd has 3 bands"),
        ({"GT": GT, "square": noise(1, 4, 24, 24)}, "square is"),
    ],
)
def test_images_that_cannot_stand_side_by_side_are_refused(images, complaint):
    with pytest.raises(ValueError, match=complaint):
        fig.show_images(images, QB)


def test_patches_share_the_stretch_of_their_batch():
    lrms, pan = noise(3, 4, 5, 5), noise(3, 1, 20, 20)
    lrms[2] *= 0.1
    figure = fig.patch_grid(lrms, pan, QB, columns=2)
    assert len(figure.axes) == 4
    stretch = fig.fit_stretch(lrms.permute(1, 0, 2, 3).reshape(4, 15, 5), QB.rgb)
    assert np.allclose(figure.axes[1].images[0].get_array(), stretch.apply(lrms[1]))


def test_a_patch_grid_of_unequal_batches_is_refused():
    with pytest.raises(ValueError, match=r"batches of \[3, 2\]"):
        fig.patch_grid(noise(3, 4, 5, 5), noise(2, 1, 20, 20), QB)


def test_a_split_map_draws_each_region_where_it_lies_and_refuses_one_outside():
    (ax,) = FIGURES["split_map"]().axes
    assert [(r.get_xy(), r.get_width(), r.get_height()) for r in ax.patches] == [
        ((0, 0), 20, 24),
        ((20, 0), 16, 24),
    ]
    with pytest.raises(ValueError, match="test region"):
        fig.split_map(GT, {"test": [(0, 30, 24, 16)]}, QB)


# zooms


def test_zooms_draw_the_box_on_every_image_and_magnify_the_same_pixels():
    figure = fig.zooms(RESULTS, LRMS, PAN, QB, box=(4, 8, 12))
    whole, zoom = figure.axes[::2], figure.axes[1::2]
    assert [ax.get_title() for ax in whole] == ["LRMS", "PAN", "EXP", "PNN, with language"]
    for ax in whole:
        (box,) = ax.patches
        assert isinstance(box, Rectangle) and (box.get_xy(), box.get_width(), box.get_height()) == (
            (8, 4),
            12,
            12,
        )
        assert mpl.colors.to_hex(box.get_edgecolor()) == "#00ff00"
    assert all(ax.get_xlim() == (8, 20) and ax.get_ylim() == (16, 4) for ax in zoom)
    assert all(ax.images[0].get_interpolation() == "nearest" for ax in figure.axes)
    assert "magnified ×3" in words(figure)


def test_zooms_share_the_stretch_of_the_input():
    stretch = fig.fit_stretch(LRMS, QB.rgb)
    wholes = fig.zooms(RESULTS, LRMS, PAN, QB).axes[::2]
    for ax, image in zip((wholes[0], *wholes[2:]), (LRMS, *RESULTS.values()), strict=True):
        assert np.allclose(ax.images[0].get_array(), stretch.apply(image))


def test_zooms_name_the_bands_they_show_and_the_size_of_the_box():
    stretch = fig.fit_stretch(LRMS, QB.gbnir)
    title = fig.zooms(RESULTS, LRMS, PAN, QB, stretch=stretch).get_suptitle()
    assert title == "QB (green, blue, nir): box of 12×12 PAN pixels, magnified ×3"


def test_blocks_of_zooms_are_about_equally_wide():
    # five images: three and two, not four and one
    figure = fig.zooms(RESULTS, LRMS, PAN, QB, gt=GT, columns=4)
    tops = [ax.get_subplotspec().rowspan.start for ax in figure.axes if ax.get_title()]
    assert sorted(map(tops.count, set(tops))) == [2, 3]


def scales(figure: Figure) -> list[tuple[float, float]]:
    return [ax.images[0].get_clim() for ax in figure.axes if ax.images and ax.images[0].get_array().ndim == 2]


@pytest.mark.parametrize("columns", [2, 6])
def test_error_maps_have_one_scale_one_colour_bar_and_digital_numbers(columns):
    figure = fig.zooms(RESULTS, LRMS, PAN, QB, gt=GT, columns=columns)
    errors = [fig.error_map(image, GT).numpy() * 2047 for image in RESULTS.values()]
    assert scales(figure) == [(0.0, pytest.approx(np.percentile(errors, 99)))] * 2
    assert sum(image.colorbar is not None for ax in figure.axes for image in ax.images) == 1
    assert f"mean {errors[0].mean():.3g}" in words(figure) and "(DN)" in words(figure)


def test_error_maps_of_scenes_divided_by_another_value_are_in_their_digital_numbers():
    figure = fig.zooms(RESULTS, LRMS, PAN, QB, gt=GT, dn_max=255.0)
    errors = [fig.error_map(image, GT).numpy() * 255 for image in RESULTS.values()]
    assert scales(figure) == [(0.0, pytest.approx(np.percentile(errors, 99)))] * 2


def test_the_error_scale_can_be_set_and_perfect_results_can_be_drawn():
    assert scales(fig.zooms(RESULTS, LRMS, PAN, QB, gt=GT, error_max=50.0)) == [(0, 50)] * 2
    assert scales(fig.zooms({"perfect": GT}, LRMS, PAN, QB, gt=GT)) == [(0, 1)]


@pytest.mark.parametrize(
    ("size", "box", "x", "y"),
    [
        ((24, 36), (4, 8, 12), (0, 36), (24, 0)),
        ((80, 16), (36, 4, 5), (0, 16), (50, 26)),
        ((80, 16), (72, 8, 8), (0, 16), (80, 56)),
        ((16, 80), (0, 2, 8), (0, 24), (16, 0)),
    ],
)
def test_of_an_elongated_scene_the_part_around_the_box_is_shown_and_the_mean_error_is_of_all(size, box, x, y):
    lrms, pan, gt = noise(1, 4, size[0] // 4, size[1] // 4), noise(1, 1, *size), noise(1, 4, *size, seed=1)
    image = gt.clone()
    image[..., : size[0] // 2, :] += 0.01
    figure = fig.zooms({"EXP": image}, lrms, pan, QB, gt=gt, box=box)
    shown = [ax for ax in figure.axes if ax.images and (ax.patches or ax.images[0].get_array().ndim == 2)]
    assert len(shown) == 5 and {(ax.get_xlim(), ax.get_ylim()) for ax in shown} == {(x, y)}
    assert "mean 10.2" in words(figure) and f"magnified ×{(x[1] - x[0]) / box[2]:.2g}" in words(figure)
    assert (f"part of {size[0]}×{size[1]}" in words(figure)) == (size != (24, 36))


@pytest.mark.parametrize("size", [(16, 80), (80, 16), (24, 36)])
def test_the_box_is_magnified_three_times_whatever_the_shape_of_the_scene(size):
    lrms, pan = noise(1, 4, size[0] // 4, size[1] // 4), noise(1, 1, *size)
    whole, zoom = fig.zooms({"EXP": lrms}, lrms, pan, QB).axes[:2]
    assert np.ptp(whole.get_xlim()) / np.ptp(zoom.get_xlim()) == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("box", [(-1, 0, 4), (0, 0, 25), (20, 0, 5), (0, 33, 4), (0, 0, 0)])
def test_a_box_outside_the_image_is_refused(box):
    with pytest.raises(ValueError, match="lies outside the image"):
        fig.zooms(RESULTS, LRMS, PAN, QB, box=box)


def test_zooms_refuse_no_results_a_taken_name_and_a_wrong_size():
    with pytest.raises(ValueError, match="at least one method"):
        fig.zooms({}, LRMS, PAN, QB)
    with pytest.raises(ValueError, match=r"none named \['PAN'\]"):
        fig.zooms({"PAN": GT}, LRMS, PAN, QB)
    with pytest.raises(ValueError, match="differ"):
        fig.zooms({"small": LRMS}, LRMS, PAN, QB, gt=GT)


# plots


def test_curves_of_several_seeds_show_mean_and_standard_deviation():
    other = HISTORY.assign(total=[5.0, 4.0, 3.0])
    figure = fig.curves({"with language": [HISTORY, other]}, ["total"])
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == [0, 10, 20] and line.get_ydata().tolist() == [4, 3, 2]
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(4 + 2**0.5) and band[:, 1].min() == pytest.approx(2 - 2**0.5)
    assert "with language (mean ± sd, 2 seeds)" in words(figure)


def test_a_single_curve_is_named_in_the_title_and_has_no_legend():
    figure = fig.curves({"Stage I": HISTORY}, ["total"], title="QB")
    assert not figure.legends and figure.get_suptitle() == "QB: Stage I"
    assert fig.curves({"Stage I": HISTORY}, ["total"]).get_suptitle() == "Stage I"


def test_a_term_is_logarithmic_only_where_it_is_positive_and_spans_a_factor_of_twenty():
    table = HISTORY.assign(signed=[-1.0, 1.0, 100.0])
    figure = fig.curves({"run": table}, ["total", "spectral", "signed"])
    assert [ax.get_yscale() for ax in figure.axes] == ["linear", "log", "linear"]


def test_without_a_choice_every_term_that_was_trained_has_its_panel_and_the_total_comes_last():
    plain = HISTORY.assign(lr=1.0, grad_norm=2.0)
    guided = plain.assign(language=[3.0, 2.0, 1.0])
    figure = fig.curves({"plain": plain, "guided": [guided]})
    assert [ax.get_title() for ax in figure.axes] == ["spectral", "language", "total"]
    assert "nothing was trained" in words(fig.curves({"Stage I": pd.DataFrame()}))


def test_smooth_curves_are_running_means_and_say_so():
    figure = fig.curves({"run": HISTORY}, ["total"], smooth=2)
    assert figure.axes[0].lines[0].get_ydata().tolist() == [3, 2.5, 1.5] and "running mean of 2" in words(
        figure
    )


def test_a_history_without_a_term_is_left_out_of_its_panel_only():
    with_language = HISTORY.assign(language=1.0)
    figure = fig.curves({"plain": HISTORY, "guided": with_language}, ["language", "total"])
    assert [len(ax.lines) for ax in figure.axes] == [1, 2]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"plain", "guided"}


def test_a_score_without_a_spread_is_printed_alone():
    scores, spread = pd.DataFrame({"SAM": [2.0, 3.0]}), pd.DataFrame({"SAM": [0.5, np.nan]})
    assert fig.mark_best(scores, {"SAM": "low"}, 1, spread)["SAM"].tolist() == ["2.0 ± 0.5 *", "3.0"]


def test_curves_refuse_a_missing_term_and_an_empty_request():
    with pytest.raises(ValueError, match=r"no history has \['language'\]; they have"):
        fig.curves({"run": HISTORY}, ["total", "language"])
    with pytest.raises(ValueError, match="history 'run' lacks 'iteration'"):
        fig.curves({"run": HISTORY.drop(columns="iteration")}, ["total"])
    with pytest.raises(ValueError, match="nothing to draw"):
        fig.curves({}, ["total"])
    with pytest.raises(ValueError, match="smooth 0"):
        fig.curves({"run": HISTORY}, ["total"], smooth=0)


def test_embeddings_are_told_apart_by_marker_and_by_colour():
    figure = fig.scatter_embeddings(PLANE, -PLANE, TYPES, ("accuracy .88", "accuracy .96"))
    before, after = (ax.collections for ax in figure.axes)
    assert [len(points.get_offsets()) for points in before] == [1, 1, 2]
    assert np.array_equal(after[2].get_offsets(), -PLANE[2:])
    assert len({points.get_facecolor().tobytes() for points in before}) == 3
    assert len({points.get_paths()[0].vertices.tobytes() for points in before}) == 3
    assert all(word in words(figure) for word in ("LRMS", "PAN", "HRMS", "accuracy .88", "accuracy .96"))


def test_lines_join_the_images_of_a_place_only_where_asked():
    assert len(fig.scatter_embeddings(PLANE, PLANE, TYPES).axes[0].lines) == 0
    lines = fig.scatter_embeddings(PLANE, PLANE, TYPES, scenes=torch.tensor([7, 7, 9, 9])).axes[0].lines
    assert [line.get_xydata().tolist() for line in lines] == [PLANE[:2].tolist(), PLANE[2:].tolist()]


def test_similarities_share_one_scale_and_show_their_numbers():
    after = torch.tensor([[0.9, -0.2, 0.0], [0.1, 0.8, 0.3], [0.4, 0.5, 0.7]])
    figure = fig.similarity_matrix(torch.eye(3) * 0.123, after)
    assert scales(figure) == [(pytest.approx(-0.9), pytest.approx(0.9))] * 2
    shown = [text.get_text() for text in figure.axes[1].texts]
    assert shown == ["0.900", "-0.200", "0.000", "0.100", "0.800", "0.300", "0.400", "0.500", "0.700"]
    assert "0.123" in words(figure)


def test_a_kernel_without_blur_has_gain_one_at_all_frequencies_and_nyquist_is_marked():
    profile, response = fig.mtf_kernels(DELTA, QB).axes
    curves = [line for line in response.lines if len(line.get_xdata()) > 2]
    assert len(curves) == 4 and all(np.allclose(line.get_ydata(), 1) for line in curves)
    dots = [
        (line.get_xdata()[0], line.get_ydata()[0]) for line in response.lines if len(line.get_xdata()) == 1
    ]
    assert dots == [(0.125, gain) for gain in QB.gnyq]
    assert profile.lines[0].get_xdata()[profile.lines[0].get_ydata().argmax()] == 0


def test_default_gains_are_called_so_and_too_few_kernels_refused():
    assert "not measured" in words(fig.mtf_kernels(DELTA, get_sensor("GF2")))
    with pytest.raises(ValueError, match="3 kernels for the 4 bands of QB"):
        fig.mtf_kernels(DELTA[:3], QB)


def test_the_optics_are_drawn_where_they_were_measured_beside_the_tables_gains():
    figure = fig.optics_curve(OPTICS, QB)
    curve, bands = figure.axes
    np.testing.assert_array_equal(np.transpose(curve.lines[0].get_data()), OPTICS.curve)
    assert curve.lines[1].get_xdata() == [0.25, 0.25]
    gains, shares = curve.lines[2].get_data()
    assert tuple(gains) == QB.gnyq
    # between the points at 0.25 and 0.6, on a logarithmic axis
    assert shares[0] == pytest.approx(0.9 - 0.2 * np.log(0.34 / 0.25) / np.log(0.6 / 0.25))
    [bars] = bands.containers
    assert tuple(bars.lines[0].get_ydata()) == OPTICS.gnyq
    np.testing.assert_allclose([line[:, 1] for line in bars.lines[2][0].get_segments()], OPTICS.interval)
    assert tuple(bands.lines[-1].get_ydata()) == QB.gnyq
    assert [label.get_text() for label in bands.get_xticklabels()] == list(QB.bands)
    assert "R² 0.90, PAN lies +0.50 rows and -1.00 columns" in words(figure) and "not good" not in words(
        figure
    )


def test_a_bad_fit_and_default_gains_are_called_so_and_a_flat_curve_is_not_drawn_steep():
    flat = replace(OPTICS, r2=0.004, curve=((0.03, 0.004), (0.25, 0.003), (0.6, 0.002)))
    figure = fig.optics_curve(flat, replace(QB, measured=False))
    assert "the fit is not good" in words(figure) and "default gains" in words(figure)
    assert np.ptp(figure.axes[0].get_ylim()) >= 0.01 and figure.axes[0].get_ylim()[0] == 0


def test_optics_of_other_bands_are_refused():
    with pytest.raises(ValueError, match="optics of 4 bands, and WV3 has 8"):
        fig.optics_curve(OPTICS, get_sensor("WV3"))


def test_spectra_are_logarithmic_and_end_at_pans_nyquist_with_a_line_at_that_of_lrms():
    [ax] = fig.power_spectra({"LRMS": SPECTRUM, "PAN": SPECTRUM}, 2).axes
    assert (ax.get_yscale(), ax.get_xlim()) == ("log", (0, 0.5))
    np.testing.assert_array_equal(ax.lines[1].get_data(), SPECTRUM)
    assert ax.lines[2].get_xdata() == [0.25, 0.25]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["LRMS", "PAN"]
    with pytest.raises(ValueError, match="no spectra to draw"):
        fig.power_spectra({}, 4)


def test_histograms_count_every_pixel_in_digital_numbers():
    lrms = torch.full((1, 4, 5, 7), 1000 / 2047)
    lrms[:, 2] = 500 / 2047
    pan = torch.full((1, 1, 20, 28), 1000 / 2047)
    stairs = fig.histograms(lrms, pan, QB, bins=4).axes[0].patches
    assert len(stairs) == 5
    assert [s.get_data().values.tolist() for s in stairs[1:3]] == [[0, 0, 0, 100], [0, 0, 100, 0]]
    assert stairs[0].get_data().edges[-1] == pytest.approx(1000, rel=1e-6)


def test_histograms_of_scenes_divided_by_another_value_count_in_their_digital_numbers():
    lrms, pan = torch.full((1, 4, 5, 7), 100 / 255), torch.full((1, 1, 20, 28), 100 / 255)
    ax = fig.histograms(lrms, pan, QB, bins=4, dn_max=255.0).axes[0]
    assert ax.patches[0].get_data().edges[-1] == pytest.approx(100, rel=1e-6)
    assert "of 255" in ax.get_xlabel()


def test_histograms_refuse_bands_that_are_not_the_sensors():
    with pytest.raises(ValueError, match="lrms has 3 bands and pan 1; QB has 4 and 1"):
        fig.histograms(noise(1, 3, 5, 5), PAN, QB)


# tables


def test_one_seed_is_drawn_without_an_interval():
    fig.paired_differences({"one seed": GAINS[:1]}, BETTER)


def test_paired_differences_show_seeds_mean_interval_and_zero_per_metric():
    figure = fig.paired_differences({"language − none": GAINS, "random − none": -GAINS}, BETTER)
    titles = ["MPSNR (dB)\n(right is better)", "ERGAS\n(left is better)"]
    assert [ax.get_title() for ax in figure.axes] == titles
    ax = figure.axes[0]
    seeds = [
        points.get_offsets()[:, 0].tolist() for points in ax.collections if len(points.get_offsets()) == 5
    ]
    assert seeds == [[1, 2, 3, 4, 5], [-1, -2, -3, -4, -5]]
    bars = [segment[:, 0] for c in ax.containers for segment in c.lines[2][0].get_segments()]
    assert bars[0] == pytest.approx([3 - 1.9632432, 3 + 1.9632432])
    assert any(line.get_xdata() == [0, 0] for line in ax.lines if len(line.get_xdata()) == 2)
    assert "+3" in words(figure) and "−3" in words(figure)


def test_the_table_of_differences_has_students_interval():
    # mean 2, standard error 1, t(0.975, 1) = 12.7062
    seeds = pd.DataFrame({"ERGAS": [1.0, 3.0], "Q2n": [0.5, 0.5]})
    assert fig.difference_table({"c": seeds}).loc["c"].to_dict() == {
        "ERGAS ↓": "+2.000 ± 12.706",
        "Q2n ↑": "+0.5000 ± 0.0000",
    }
    assert fig.difference_table({"c": seeds[:1]}).loc["c", "ERGAS ↓"] == "+1.000"


def test_a_header_says_unit_and_direction_also_of_a_difference_and_takes_a_given_unit():
    assert [header(name) for name in ("MPSNR", "ERGAS", "SAM difference", "silhouette")] == [
        "MPSNR (dB) ↑",
        "ERGAS ↓",
        "SAM difference (°) ↓",
        "silhouette",
    ]
    assert header("mean error", "DN") == "mean error (DN)"


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("Q2n", [0.5], 4),
        ("MPSNR difference", [0.01], 3),
        ("parameters", [12345.0, 7.0], 0),
        ("speed", [61.234, 0.01], 2),
        ("share", [0.12345, 1.0], 4),
        ("share", [0.05], 4),
        ("share", [0.005], 6),
        ("loss", [0.000512], 6),
        ("loss", [4.4e-06], None),
        ("loss", [math.nan], 0),
        ("loss", [0.0], 0),
    ],
)
def test_a_column_has_the_decimals_that_its_largest_value_needs(metric, values, expected):
    assert decimals(metric, pd.Series(values)) == expected


def test_one_row_alone_is_not_the_best():
    assert fig.mark_best(pd.DataFrame({"ERGAS": [2.0]}), BETTER)["ERGAS"].tolist() == ["2.0000"]
    assert bold(fig.best_in_bold(pd.DataFrame({"ERGAS": [2.0, np.nan]}), BETTER)) == set()


def test_paired_differences_refuse_what_cannot_be_compared():
    with pytest.raises(ValueError, match="no comparisons"):
        fig.paired_differences({}, BETTER)
    with pytest.raises(ValueError, match="column 'MPSNR': say whether"):
        fig.paired_differences({"a": GAINS}, {"ERGAS": "low"})
    with pytest.raises(ValueError, match=r"comparison 'b' lacks \['ERGAS'\]"):
        fig.paired_differences({"a": GAINS, "b": GAINS[["MPSNR"]]}, BETTER)


def test_the_best_of_each_column_is_marked_in_its_own_direction():
    scores = pd.DataFrame(
        {"MPSNR": [29.5, 30.123, np.nan], "ERGAS": [3.1, 2.9, 2.9004]}, index=["EXP", "GSA", "PNN"]
    )
    marked = fig.mark_best(scores, BETTER, digits=2)
    assert marked.loc["EXP"].tolist() == ["29.50", "3.10"]
    assert marked.loc["GSA"].tolist() == ["30.12 *", "2.90 *"]
    assert marked.loc["PNN"].tolist() == ["-", "2.90 *"]


def test_the_spread_stands_beside_the_mean():
    scores = pd.DataFrame({"MPSNR": [29.5, 30.0]})
    assert fig.mark_best(scores, BETTER, 1, scores * 0.01)["MPSNR"].tolist() == ["29.5 ± 0.3", "30.0 ± 0.3 *"]


def test_a_column_without_direction_and_a_spread_that_does_not_fit_are_refused():
    scores = pd.DataFrame({"MPSNR": [29.5], "colour": [1.0]})
    with pytest.raises(ValueError, match="column 'colour': say whether"):
        fig.mark_best(scores, BETTER)
    with pytest.raises(ValueError, match="spread has columns"):
        fig.mark_best(scores[["MPSNR"]], BETTER, spread=scores)


def bold(styler):
    """(row, column) of the cells set in bold."""
    styler._compute()
    return {cell for cell, css in styler.ctx.items() if ("font-weight", "bold") in css}


def test_the_best_of_each_column_with_a_direction_is_bold_ties_as_printed_included():
    scores = pd.DataFrame({"MPSNR": [29.5, 30.123, np.nan], "ERGAS": [3.1, 2.9, 2.9004], "MP/s": [1, 2, 3]})
    assert bold(fig.best_in_bold(scores, BETTER, digits=2)) == {(1, 0), (1, 1), (2, 1)}
    assert bold(fig.best_in_bold(scores, BETTER, digits=4)) == {(1, 0), (1, 1)}


def test_the_table_in_bold_is_the_same_html_every_time():
    scores = pd.DataFrame({"MPSNR": [29.5, np.nan]}, index=["EXP", "GSA"])
    html = fig.best_in_bold(scores, BETTER).to_html()
    assert html == fig.best_in_bold(scores, BETTER).to_html()
    assert "29.5000" in html and "-" in html


def test_the_best_method_is_named_on_top_and_every_dot_lies_at_its_numbers():
    quality = pd.Series({"EXP": 0.6, "GSA": 0.9, "PNN": 0.8}, name="Q2n")
    figure = fig.quality_and_speed(quality, pd.Series({"GSA": 10.0, "EXP": 100.0, "PNN": 0.1}))
    ax, names = figure.axes
    dots = [tuple(float(v[0]) for v in line.get_data()) for line in ax.lines]
    assert dots == [(100.0, 0.6), (0.1, 0.8), (10.0, 0.9)]
    heights = {text.get_text(): text.get_position()[1] for text in names.texts}
    assert sorted(heights, key=heights.get) == ["EXP", "PNN", "GSA"]
    assert (ax.get_xscale(), ax.get_ylabel()) == ("log", "Q2n")


def test_quality_and_speed_of_different_methods_are_refused():
    with pytest.raises(ValueError, match=r"quality is of \['EXP'\], speed of \['GSA'\]"):
        fig.quality_and_speed(pd.Series({"EXP": 0.6}), pd.Series({"GSA": 1.0}))


def test_maps_of_an_index_share_a_scale_and_their_means_stand_below():
    one, other = torch.rand(12, 16), 3 * torch.rand(12, 16)
    small = torch.rand(3, 4)
    figure = index_maps({"D_rho": {"a": one, "b": other}, "error (DN)": {"a": small, "b": small}}, "where")
    images = [ax.images[0] for ax in figure.axes if ax.images]
    assert len(images) == 4 and images[0].get_clim() == images[1].get_clim() != images[2].get_clim()
    assert images[0].get_clim()[1] == pytest.approx(np.percentile(torch.stack([one, other]).numpy(), 99))
    labels = [ax.get_xlabel() for ax in figure.axes if ax.images]
    assert labels[:2] == [f"mean {one.mean():.3g}", f"mean {other.mean():.3g}"]
    assert {ax.get_ylabel() for ax in figure.axes} >= {"D_rho", "error (DN)"}
    assert index_maps({"flat": {"a": torch.zeros(4, 4)}}).axes[0].images[0].get_clim() == (0, 1)


@pytest.mark.parametrize(
    "maps", [{}, {"D_rho": {}}, {"a": {"x": torch.ones(2, 2)}, "b": {"y": torch.ones(2, 2)}}]
)
def test_maps_that_do_not_fit_one_another_are_refused(maps):
    with pytest.raises(ValueError, match="give every index the same methods, at least one"):
        index_maps(maps)
