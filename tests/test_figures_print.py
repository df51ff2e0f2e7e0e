"""Every figure in both widths of a paper: texts inside, legible and apart; lines, dots and leaders told apart."""

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from matplotlib.path import Path as Outline
from matplotlib.text import Text
from matplotlib.transforms import Affine2D
from rasters import grid, save

from clippan_lib import figures
from clippan_lib.data.pair import ScenePair, open_pair
from clippan_lib.data.synthetic import render
from clippan_lib.figures import COLUMN, WIDTH
from clippan_lib.figures.maps import index_maps
from clippan_lib.figures.style import PALETTE, fitted, inches, looks, marked, new_figure
from clippan_lib.fusion.registry import CLASSICAL
from clippan_lib.metrics import BETTER
from clippan_lib.mtf import mtf_kernel, upsample
from clippan_lib.optics import Optics, Spectrum
from clippan_lib.sensors import get_sensor

PRINTED = {WIDTH: 7.16, COLUMN: 3.5}  # inches on paper, of both columns and of one
SENSOR = get_sensor("WV3")
SCENE = render(0, SENSOR, 64)
LRMS, PAN, GT = SCENE["lrms"], SCENE["pan"], SCENE["gt"]
METHODS = [*(method.title for method in CLASSICAL.values()), "stack", "pnn", "fusionnet, reduced"]
CONTROLS = ["pnn", "pnn-C", "random CLIP", "shuffled prompts"]
TEXTS = ["release_i", "release_ii", "wald", "wrong colours", "random direction 3", "fitted to the last alone"]
TITLE = "Full resolution: change by the language term"
RNG = np.random.default_rng(0)


def fused(count: int) -> dict[str, torch.Tensor]:
    blurred = upsample(LRMS[None], 4)[0].clamp(0, 1)
    return {name: blurred.lerp(GT, place / count) for place, name in enumerate(METHODS[-count:])}


def history(shift: float) -> pd.DataFrame:
    """Terms that are the same with any control, but for the language."""
    falling = 1e-4 * np.exp(-np.arange(30) / 10)
    return pd.DataFrame(
        {"iteration": range(30), "spectral": falling, "spatial": 10 * falling, "language": falling + shift}
    )


def scene(folder) -> ScenePair:
    ms, pan = ((2047 * image).round().numpy().astype(np.uint16) + 1 for image in (LRMS, PAN))
    ms[:, :3, :3] = 0
    files = save(folder / "ms.tif", ms, grid(4), nodata=0), save(folder / "pan.tif", pan, grid(), nodata=0)
    return open_pair(*files, sensor=SENSOR)


def shares(rows: list[str]) -> pd.DataFrame:
    columns = ["blurred", "colour-shifted", "noisy", "misregistered"]
    return pd.DataFrame(RNG.random((len(rows), 4)), rows, columns)


def ranking() -> pd.DataFrame:
    return shares(TEXTS).set_axis(["wins_low", "wins", "wins_high", "rest"], axis="columns")


FOUND = (0.35, 0.36, 0.39, 0.35, 0.38, 0.38, 0.36, 0.35)
OPTICS = Optics(
    gnyq=FOUND,
    interval=tuple((gain - 0.05, gain + 0.05) for gain in FOUND),
    common=0.38,
    shift=(0.5, -1.0),
    shift_interval=((0.4, 0.6), (-1.1, -0.9)),
    r2=0.5,
    curve=((0.03, 0.45), (0.25, 0.5), (0.6, 0.47)),
    reach=4,
)
SPECTRUM = Spectrum(np.linspace(0.01, 0.49, 20), np.geomspace(1000, 0.01, 20))
TYPES = torch.arange(60) % 3
PLANE = RNG.normal(size=(60, 2)) + 4 * np.eye(3)[TYPES, :2]
LAYOUTS = (
    "before Stage I: zero-shot 0.996, silhouette 0.805",
    "after Stage I: zero-shot 1.000, silhouette 0.607",
)
GAINS = pd.DataFrame({name: RNG.normal(2e-4, 5e-4, 5) for name in ("MPSNR", "ERGAS", "SAM", "Q2n", "HQNR")})
QUALITY = pd.Series(1 - RNG.random(len(METHODS)) ** 3 / 3, METHODS, name="Q2n")
SPEED = pd.Series(10 ** RNG.uniform(-2, 1.5, len(METHODS)), METHODS)
CHANCE = {name: torch.linspace(0.1, 0.9, 50) for name in ("before Stage I", "after Stage I")}
SIMILARITY = torch.tensor([[0.33, -0.156, 0.188], [-0.36, 0.356, -0.041], [0.027, -0.007, 0.334]])
REGIONS = {"train": [(0, 0, 64, 30)], "validation": [(0, 30, 64, 14)], "test": [(0, 44, 64, 20)]}

FIGURES: dict[str, Callable[..., Figure]] = {
    "show_images": lambda **how: figures.show_images({"LRMS": LRMS, "PAN": PAN, **fused(6)}, SENSOR, **how),
    "patch_grid": lambda **how: figures.patch_grid(
        LRMS.repeat(9, 1, 1, 1), PAN.repeat(9, 1, 1, 1), SENSOR, GT.repeat(9, 1, 1, 1), title=TITLE, **how
    ),
    "split_map": lambda **how: figures.split_map(GT, REGIONS, SENSOR, **how),
    "zooms": lambda **how: figures.zooms(fused(8), LRMS, PAN, SENSOR, GT, **how),
    "zooms of few": lambda **how: figures.zooms(fused(2), LRMS, PAN, SENSOR, title=TITLE, **how),
    "curves": lambda **how: figures.curves(
        {name: [history(place), history(place)] for place, name in enumerate(CONTROLS)},
        smooth=10,
        title=TITLE,
        **how,
    ),
    "scatter_embeddings": lambda **how: figures.scatter_embeddings(
        PLANE, PLANE, TYPES, LAYOUTS, torch.arange(60) // 3, **how
    ),
    "similarity_matrix": lambda **how: figures.similarity_matrix(SIMILARITY, SIMILARITY / 2, **how),
    "mtf_kernels": lambda **how: figures.mtf_kernels(mtf_kernel(SENSOR.gnyq, 4), SENSOR, **how),
    "histograms": lambda **how: figures.histograms(LRMS, PAN, SENSOR, **how),
    "optics_curve": lambda **how: figures.optics_curve(OPTICS, SENSOR, **how),
    "power_spectra": lambda **how: figures.power_spectra(
        {"LRMS": SPECTRUM, "PAN": SPECTRUM, "LRMS of a real scene": SPECTRUM}, 4, TITLE, **how
    ),
    "quality_and_speed": lambda **how: figures.quality_and_speed(QUALITY, SPEED, **how),
    "paired_differences": lambda **how: figures.paired_differences(
        dict.fromkeys(CONTROLS[1:], GAINS), BETTER, TITLE, **how
    ),
    "protocol_ranking": lambda **how: figures.protocol_ranking(
        {name: ranking() for name in CHANCE}, CHANCE, dict.fromkeys(CHANCE, 0.7), TITLE, **how
    ),
    "protocol_spoilings": lambda **how: figures.protocol_spoilings(
        {name: shares(TEXTS) for name in CHANCE}, TITLE, **how
    ),
    "steering": lambda **how: figures.steering(
        {name: 200 * shares(TEXTS) - 100 for name in CHANCE}, {"wald": "noisy"}, TITLE, **how
    ),
    "index_maps": lambda **how: index_maps(
        {"D_rho": dict.fromkeys(METHODS[-4:], GT[0] / 7), "error (DN)": dict.fromkeys(METHODS[-4:], PAN[0])},
        TITLE,
        **how,
    ),
}
COLOURED = ("show_images", "patch_grid", "split_map", "zooms", "scene_overview")


@pytest.fixture(scope="module")
def draw(tmp_path_factory) -> Callable[..., Figure]:
    pair = scene(tmp_path_factory.mktemp("scene"))
    known = FIGURES | {"scene_overview": lambda **how: figures.scene_overview(pair, SENSOR, **how)}
    return cache(lambda name, **how: known[name](**how))


def drawn(axis: Axis) -> set[Text]:
    """Tick labels within the limits of an axis; others exist and are not drawn."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-6 * (high - low)
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return {tick.label1 for tick in ticks if low - slack <= tick.get_loc() <= high + slack}


def texts(figure: Figure) -> list[Text]:
    axes = [axis for ax in figure.axes if ax.axison for axis in (ax.xaxis, ax.yaxis)]
    hidden = {label for axis in axes for label in axis.get_ticklabels(which="both")}
    hidden |= {
        label
        for ax in figure.axes
        if not ax.axison
        for axis in (ax.xaxis, ax.yaxis)
        for label in axis.findobj(Text)
    }
    seen = {*figure.findobj(Text)} - hidden | set().union(*map(drawn, axes))
    return [text for text in seen if text.get_visible() and text.get_text().strip()]


def outline(text: Text) -> Outline:
    """The rectangle that a text fills, turned as the text is, a pixel smaller on all sides."""
    middle, angle = np.mean(text.get_window_extent().get_points(), axis=0), text.get_rotation()
    text.set_rotation(0)
    width, height = text.get_window_extent().size
    text.set_rotation(angle)
    turned = Affine2D().scale(width - 2, height - 2).rotate_deg(angle).translate(*middle)
    return turned.transform_path(Outline(Outline.unit_rectangle().vertices - 0.5, closed=True))


def overlaps(figure: Figure) -> Iterator[tuple[str, str]]:
    outlines = [(text.get_text(), outline(text)) for text in texts(figure)]
    for (one, first), (other, second) in combinations(outlines, 2):
        if first.intersects_path(second):
            yield one, other


NAMES = [*FIGURES, "scene_overview"]


def test_every_public_figure_function_is_drawn_here_and_takes_a_width():
    made = {name for name in figures.__all__ if inspect.isfunction(getattr(figures, name))}
    made = {name for name in made if inspect.signature(getattr(figures, name)).return_annotation is Figure}
    assert made <= set(NAMES)
    for name in made:
        assert "width" in inspect.signature(getattr(figures, name)).parameters, name
        assert ("bands" in inspect.signature(getattr(figures, name)).parameters) == (name in COLOURED), name


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize("name", NAMES)
def test_in_print_every_text_is_inside_of_six_points_at_least_and_apart_from_the_others(draw, name, width):
    figure = draw(name, width=width)
    assert figure.get_figwidth() <= width
    # the layout is made anew whenever a figure is saved
    figure.draw_without_rendering()
    for text in texts(figure):
        box, frame = text.get_window_extent(), figure.bbox
        assert text.get_fontsize() * PRINTED[width] / width >= 6, text
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < frame.x1 + 1 and box.y1 < frame.y1 + 1, text
    assert list(overlaps(figure)) == []


def test_texts_over_one_another_are_found_and_turned_ones_beside_one_another_are_not():
    figure = new_figure(2.0, 2.0)
    for place, text in ((0.1, "over"), (0.15, "another")):
        figure.text(place, 0.8, text)
    for place in (0.3, 0.5):
        figure.text(place, 0.1, "beside one another", rotation=45)
    assert list(map(set, overlaps(figure))) == [{"over", "another"}]


def test_a_text_is_broken_by_its_width_and_not_by_its_letters():
    assert inches("MMMM") > 2 * inches("iiii") and inches("MMMM\nM") == inches("MMMM")
    room = inches("wide WORDS")
    assert fitted("wide WORDS", room) == "wide WORDS"
    assert fitted("wide WORDS", room - 0.01) == "wide\nWORDS"
    assert fitted("iiiiiiiiii\nwide WORDS", room - 0.01) == "iiiiiiiiii\nwide\nWORDS"
    assert fitted("WORDS", inches("WOR")) == "WOR\nDS" and fitted("", 1.0) == ""


@pytest.mark.parametrize("count", [1, 2, 4, 20])
def test_no_two_lines_or_dots_look_the_same_and_dashes_become_shorter(count):
    for seen in (looks(count), list(map(marked, range(count)))):
        assert len({tuple(look.values()) for look in seen}) == count
    dashes = [0 if look["linestyle"] == "-" else look["linestyle"][1][1] for look in looks(count)]
    assert dashes == sorted(dashes) and (count > 8 or len(set(dashes)) == count)


def colours_seen(figure: Figure) -> set[str]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].reshape(-1, 3) / 255
    return {colour for colour in PALETTE if (abs(pixels - to_rgb(colour)).max(1) < 0.02).sum() > 20}


def test_lines_that_coincide_are_all_seen():
    same = {name: history(0.0) for name in CONTROLS}
    figure = figures.curves(same, ["spectral"], width=COLUMN)
    figure.legends[0].remove()
    assert colours_seen(figure) >= set(PALETTE[:4])


def test_each_method_has_its_own_dot_which_stands_beside_its_name_too(draw):
    ax, names = draw("quality_and_speed", width=COLUMN).axes
    look = [[(to_hex(line.get_color()), line.get_marker()) for line in plot.lines] for plot in (ax, names)]
    assert look[0] == look[1] and len(set(look[0])) == len(METHODS) >= 19
    assert [text.get_text() for text in names.texts] == list(QUALITY.sort_values().index)


def test_the_lines_from_dots_to_names_never_cross(draw):
    ax, names = draw("quality_and_speed", width=WIDTH).axes
    level = [segment[:, 1].tolist() for lines in ax.collections for segment in lines.get_segments()]
    assert level == [[value, value] for value in QUALITY.sort_values()]
    sloped = [patch for patch in names.patches if isinstance(patch, ConnectionPatch)]
    assert [patch.xy1[1] for patch in sloped] == QUALITY.sort_values().tolist()
    ends = [patch.xy2[1] for patch in sloped]
    assert ends == sorted(ends) and len(set(ends)) == len(METHODS)


def test_bands_are_shown_by_name(draw):
    named, drawn = ("nir1", "red", "green"), figures.fit_stretch(LRMS, (6, 4, 2)).apply(LRMS)
    for name in ("zooms", "show_images", "patch_grid"):
        figure = draw(name, bands=named)
        assert np.allclose(figure.axes[0].images[0].get_array(), drawn, atol=0.02), name
    assert "WV3 (nir1, red, green)" in draw("zooms", bands=named).get_suptitle()
    left, right = (
        draw("scene_overview", bands=bands).axes[1].images[0].get_array() for bands in (named, None)
    )
    assert not np.allclose(left, right)
    grey = draw("split_map", bands=("nir1",)).axes[0].images[0].get_array()
    assert np.allclose(grey, figures.fit_stretch(GT, (6,)).apply(GT))


@pytest.mark.parametrize("bands", [("red", "green"), ("red", "green", "nir"), ()])
@pytest.mark.parametrize("name", COLOURED)
def test_bands_that_the_sensor_lacks_and_two_of_them_are_refused(draw, name, bands):
    with pytest.raises(ValueError, match="give three .* or one .* of WV3's coastal, blue"):
        draw(name, bands=bands)


def test_bands_beside_a_stretch_which_has_its_own_are_refused():
    stretch = figures.fit_stretch(LRMS, SENSOR.rgb)
    for name in ("show_images", "zooms"):
        with pytest.raises(ValueError, match="bands red and a stretch, which has its own bands"):
            FIGURES[name](stretch=stretch, bands=("red",))
