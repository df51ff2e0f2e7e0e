"""The picture of a whole scene: true distances, NoData seen as such, the same whatever the size of what is read."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rasters import grid, noise, save

from clippan_lib.data.pair import ScenePair, open_pair
from clippan_lib.figures import scene_overview, scenes
from clippan_lib.sensors import get_sensor

QB = get_sensor("QB")


def pair(folder: Path, height: int = 20, width: int = 29, empty: int = 0, **options) -> ScenePair:
    """A scene whose upper left MS pixels, `empty` a side, are NoData, and so is PAN's pixel below them."""
    ms, pan = noise(4, height, width), noise(1, 4 * height, 4 * width, seed=1)
    ms[:, :empty, :empty] = 0
    pan[:, 4 * empty : 4 * empty + (empty > 0), 0] = 0
    transforms = (None, None) if options.get("crs", "") is None else (grid(4, 0.5, 0.5), grid())
    return open_pair(
        save(folder / "ms.tif", ms, transforms[0], nodata=0, **options),
        save(folder / "pan.tif", pan, transforms[1], nodata=0, **options),
        sensor=QB,
    )


def shown(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes]


def test_both_images_show_the_same_ground_in_metres(tmp_path):
    figure = scene_overview(pair(tmp_path), QB)
    assert [image.shape for image in shown(figure)] == [(80, 116, 4), (20, 29, 4)]
    for ax, title in zip(figure.axes, ("PAN, pixels of 0.5 m", "LRMS, pixels of 2 m"), strict=True):
        assert ax.get_xlim() == (0, 58) and ax.get_ylim() == (40, 0)
        assert ax.images[0].get_extent() == [0, 58, 40, 0]
        assert ax.get_title() == title and ax.get_xlabel() == "from the upper left corner (m)"
    assert figure.get_suptitle() == "EPSG:32632, upper left corner at 448123.4, 5412678.9"
    assert scene_overview(pair(tmp_path), QB, "mine").get_suptitle() == "mine"


def test_without_a_crs_distances_are_pixels_of_pan(tmp_path):
    figure = scene_overview(pair(tmp_path, crs=None), QB)
    assert [ax.get_title() for ax in figure.axes] == ["PAN, pixels of 1 PAN px", "LRMS, pixels of 4 PAN px"]
    assert "no CRS" in figure.get_suptitle()


def test_nodata_is_see_through_over_hatching_and_explained(tmp_path):
    figure = scene_overview(pair(tmp_path, empty=3), QB)
    opaque = [image[..., 3] == 1 for image in shown(figure)]
    expected = [np.ones((80, 116), bool), np.ones((20, 29), bool)]
    expected[0][12, 0] = expected[1][:3, :3] = False
    assert all(np.array_equal(*both) for both in zip(opaque, expected, strict=True))
    for ax in figure.axes:
        assert any(isinstance(patch, Rectangle) and patch.get_hatch() for patch in ax.patches)
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["NoData"]
    assert scene_overview(pair(tmp_path), QB).legends == []


def test_what_is_empty_does_not_decide_the_stretch(tmp_path):
    whole, holed = (shown(scene_overview(pair(tmp_path, empty=empty), QB))[1] for empty in (0, 12))
    np.testing.assert_allclose(holed[13:, 13:], whole[13:, 13:], atol=0.05)


def test_a_large_scene_is_averaged_and_read_in_parts_that_leave_no_trace(tmp_path, monkeypatch):
    scene = pair(tmp_path, empty=3)
    monkeypatch.setattr(scenes, "_CELLS", 10)
    at_once = shown(scene_overview(scene, QB))
    assert [image.shape for image in at_once] == [(27, 39, 4), (7, 10, 4)]
    monkeypatch.setattr(scenes, "_ROWS", 5)
    figure = scene_overview(scene, QB)
    for one, other in zip(at_once, shown(figure), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert figure.axes[1].get_xlim() == (0, 58)
    # 3 x 3 MS px make a cell, and what is left at the edges
    assert figure.axes[1].images[0].get_extent() == [0, 60, 42, 0]
    assert at_once[1][0, 0, 3] == 0 and at_once[0][..., 3].all()


def test_means_are_those_of_the_valid_pixels():
    window = np.array([[1, 2, 5], [3, 90, 7]], np.float32)
    image = scenes.torch.from_numpy(window)[None, None]
    mean, valid = scenes._averaged(image, image < 80, 2)
    assert mean.tolist() == [[[2.0, 6.0]]] and valid.tolist() == [[True, True]]


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the scene has 4 bands and sensor WV3 8"):
        scene_overview(pair(tmp_path), get_sensor("WV3"))
    with pytest.raises(ValueError, match="LRMS is NoData throughout"):
        scene_overview(pair(tmp_path, empty=30), QB)


def test_a_narrow_scene_is_drawn_in_a_narrow_figure_with_all_its_text_inside(tmp_path):
    narrow, wide = (scene_overview(pair(tmp_path, *size), QB) for size in ((80, 16), (16, 80)))
    assert narrow.get_figwidth() < wide.get_figwidth() == 10
    for figure in (narrow, wide):
        for ax in figure.axes:
            for text in (ax.title, ax.xaxis.label):
                box = text.get_window_extent()
                assert box.x0 > 0 and box.y0 > 0 and box.x1 < figure.bbox.x1 and box.y1 < figure.bbox.y1
