"""The map of patches: what is chosen is what is shown, and every control moves picture and numbers as it says."""

import math
from importlib import import_module

import explorers
import numpy as np
import pytest
import torch
from explorers import tile
from tiny import WHOLE, open_tiny

from clippan_lib.errors import MissingStage
from clippan_lib.evaluation.embedding import TYPES, Embeddings, embed_patches, embedding_scores
from clippan_lib.explore.embedding import (
    BEFORE_AFTER,
    embedding,
    nearest_others,
    square,
)

module = import_module("clippan_lib.explore.embedding")  # the package has a function of this name

SCENES = {"train": 1, "test": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = open_tiny(tmp_path_factory.mktemp("embedding"), WHOLE, **SCENES)
    run.stage1(run.new_supervisor(), "supervisor")
    return run


@pytest.fixture(scope="module")
def explorer(run):
    """Of 12 patches, six of each scene; every test sets the controls that it reads."""
    return embedding(run, most=12)


def shown(explorer):
    """Pictures and titles of the figure: LRMS, PAN and HRMS of the patch, then its neighbours of the other types."""
    axes = [ax for ax in explorer.figure().axes if ax.images and ax.get_visible()]
    return [np.asarray(ax.images[0].get_array()) for ax in axes], [ax.get_title() for ax in axes]


# the pure parts


def test_the_map_fills_its_square_along_the_longer_side_and_keeps_its_shape():
    plane = square(np.array([[0.0, 10.0], [20.0, 15.0], [10.0, 10.0]]))
    assert plane.tolist() == [[0.0, 37.5], [100.0, 62.5], [50.0, 37.5]]


def test_neighbours_are_of_other_types_and_nearest_by_angle():
    degrees = torch.tensor([0.0, 50.0, 40.0, 10.0, 80.0, 30.0]).deg2rad()
    features = torch.stack([degrees.cos(), degrees.sin()], 1)
    types, scenes = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1] * 3)
    embeddings = Embeddings(features, types, scenes, types, features[:3])
    found = nearest_others(embeddings, 0)  # LRMS at 0 degrees: PAN at 10, HRMS at 30
    assert {kind: row for kind, (row, _) in found.items()} == {1: 3, 2: 5}
    assert found[1][1] == pytest.approx(math.cos(math.radians(10)), abs=1e-6)
    assert {kind: row for kind, (row, _) in nearest_others(embeddings, 4).items()} == {0: 1, 1: 2}


# the controls


@pytest.mark.parametrize("kind", TYPES)
def test_the_chosen_point_shows_its_patch(explorer, run, kind):
    explorer.set(stage=BEFORE_AFTER[1], colour="type", type=kind, patch=5)
    patches = run.patches("test", "full")
    index = int(torch.linspace(0, len(patches) - 1, 12).long()[4])
    assert int(explorer.map.embeddings.patches[explorer.row]) == index
    assert TYPES[int(explorer.map.embeddings.types[explorer.row])] == kind
    batch = patches.batch([index])
    lrms, pan, hrms = explorer.images(explorer.row)
    assert torch.equal(lrms, batch.lrms) and torch.equal(pan, batch.pan)
    assert torch.equal(hrms, run.hrms(batch))
    pictures, titles = shown(explorer)
    every = patches.batch(torch.linspace(0, len(patches) - 1, 12).long())
    for picture, image, stack, band in (
        (pictures[0], lrms, every.lrms, run.dataset.sensor.rgb[0]),
        (pictures[1], pan, every.pan, 0),
        (pictures[2], hrms, every.lrms, run.dataset.sensor.rgb[0]),
    ):
        low, high = np.percentile(stack[:, band].double(), [1, 99])  # one stretch for all patches
        expected = ((image[0, band].double().numpy() - low) / (high - low)).clip(0, 1)
        np.testing.assert_allclose(picture.reshape(*expected.shape, -1)[..., 0], expected, atol=1e-6)
    nearest = [f"nearest {other}" for other in TYPES if other != kind]
    assert [title.split("\n")[0] for title in titles[:3]] == list(TYPES) and [
        title.split("\n")[0] for title in titles[3:]
    ] == nearest


def test_the_neighbours_shown_are_those_of_the_space(explorer):
    explorer.set(stage=BEFORE_AFTER[1], type="PAN", patch=3)
    pictures, titles = shown(explorer)
    found = nearest_others(explorer.map.embeddings, explorer.row)
    for picture, title, (kind, (row, cosine)) in zip(pictures[3:], titles[3:], found.items(), strict=True):
        patch = row % 12 + 1
        told = "the same patch" if patch == 3 else f"patch {patch}"
        assert title == f"nearest {TYPES[kind]}\n{told}, cosine {cosine:.2f}"
        explorer.set(patch=patch)
        np.testing.assert_array_equal(shown(explorer)[0][kind], picture)


def test_a_click_on_a_point_chooses_it(explorer):
    explorer.set(stage=BEFORE_AFTER[1], type="LRMS", patch=1)
    explorer.plane._handle_custom_msg({"kind": "pick", "point": 2 * 12 + 7}, [])
    assert (explorer["type"], explorer["patch"]) == ("HRMS", 8)
    points = explorer.plane.frames[0]["points"]
    assert points["ring"][0] == explorer.row == 2 * 12 + 7
    # The canvas counts rows from the top, the map from the bottom
    x, y = explorer.map.plane[explorer.row]
    assert (points["x"][31], points["y"][31]) == pytest.approx((x + 4, 104 - y), abs=0.01)


def test_arrow_keys_go_from_patch_to_patch(explorer):
    explorer.set(patch=12)
    explorer.plane._handle_custom_msg({"kind": "step", "by": 1}, [])
    assert explorer["patch"] == 1


def test_a_lasso_counts_what_it_holds_and_makes_the_rest_pale(explorer):
    explorer.plane._handle_custom_msg({"kind": "lasso", "points": [0, 3, 13, 30]}, [])
    assert "4 points in the lasso: 2 LRMS, 1 PAN, 1 HRMS" in explorer.numbers.value
    assert explorer.plane.frames[0]["points"]["chosen"] == [0, 3, 13, 30]
    [scattered] = [ax for ax in explorer.figure().axes if ax.collections]
    alphas = np.concatenate([each.get_alpha() for each in scattered.collections])
    assert np.flatnonzero(alphas > 0.5).tolist() == [0, 3, 13, 30]
    explorer.plane._handle_custom_msg({"kind": "lasso", "points": []}, [])
    assert "lasso" not in explorer.numbers.value


def test_looking_closer_stays_when_another_point_is_chosen(explorer):
    explorer.plane.wanted = [2, 10.5, 20.25, 50]
    explorer.set(patch=4)
    assert explorer.plane.view == [2, 10.5, 20.25, 50]


def test_the_pointer_is_told_which_point_it_is_on(explorer, monkeypatch):
    told = []
    monkeypatch.setattr(explorer.plane, "send", lambda message: told.append(message["text"]))
    explorer.plane._handle_custom_msg({"kind": "hover", "frame": 0, "row": 1, "column": 1, "point": 14}, [])
    explorer.plane._handle_custom_msg({"kind": "hover", "frame": 0, "row": 1, "column": 1, "point": None}, [])
    assert told == [f"PAN of patch 3, scene {explorer.patches.stack.names[0]}"]


def test_the_canvas_shows_the_pictures_of_the_figure(explorer):
    explorer.set(stage=BEFORE_AFTER[1], type="PAN", patch=3)
    pictures, titles = shown(explorer)
    assert [frame["name"] for frame in explorer.shown.frames] == [title.split("\n")[0] for title in titles]
    assert [frame["marked"] for frame in explorer.shown.frames] == [False, True, False, False, False]
    for number, picture in enumerate(pictures):
        sent = tile(explorer.shown, number)["picture"]
        expected = (np.broadcast_to(picture.reshape(*sent.shape[:2], -1), sent.shape) * 255).round()
        np.testing.assert_array_equal(sent, expected)


def test_previous_and_next_go_round(explorer):
    previous, following = explorer.widget.children[0].children[-2:]
    explorer.set(patch=12)
    following.click()
    assert explorer["patch"] == 1
    previous.click()
    assert explorer["patch"] == 12


def test_every_control_changes_what_is_shown(explorer):
    explorer.set(stage=BEFORE_AFTER[1], colour="type", type="LRMS", patch=1)
    seen = {repr(explorers.shown(explorer))}
    for change in ({"patch": 9}, {"type": "HRMS"}, {"colour": "scene"}, {"stage": BEFORE_AFTER[0]}):
        explorer.set(**change)
        seen.add(repr(explorers.shown(explorer)))
    assert len(seen) == 5


def test_colours_follow_type_or_scene(explorer):
    def colours():
        [scattered] = [ax for ax in explorer.figure().axes if ax.collections]
        return np.concatenate([each.get_facecolors() for each in scattered.collections])

    explorer.set(colour="type")
    by_type = colours()
    explorer.set(colour="scene")
    by_scene = colours()
    patches = explorer.patches
    scenes = [patches.scene_of(patch) for patch in explorer.map.embeddings.patches.tolist()]
    for given, labels in ((by_type, explorer.map.embeddings.types.tolist()), (by_scene, scenes)):
        pairs = set(zip(labels, map(tuple, given.tolist()), strict=True))
        assert len(pairs) == len(set(labels)) == len({colour for _, colour in pairs})
    legend = [text.get_text() for text in explorer.figure().legends[0].get_texts()]
    assert legend == [*TYPES, *patches.stack.names]


def test_before_and_after_differ_in_map_and_numbers_and_each_is_that_of_the_library(explorer, run):
    fuse, patches = run.hrms, run.patches("test", "full")
    for stage, supervisor in zip(
        BEFORE_AFTER, (run.new_supervisor(adapted=False), run.adapted_supervisor()), strict=True
    ):
        explorer.set(stage=stage)
        scores = embedding_scores(embed_patches(supervisor, patches, fuse, 12))
        assert explorer.map.scores == pytest.approx(scores, abs=1e-5)
        assert f"silhouette of the types {scores['silhouette']:.3f}" in explorer.numbers.value
        assert stage in explorer.numbers.value and stage in explorer.figure().get_suptitle()
    maps = [explorer._map(stage) for stage in BEFORE_AFTER]
    assert np.abs(maps[0].plane - maps[1].plane).max() > 1
    assert maps[0].scores["silhouette"] != pytest.approx(maps[1].scores["silhouette"], abs=1e-4)


def test_a_stage_seen_before_is_not_embedded_again(explorer, monkeypatch):
    explorer.set(stage=BEFORE_AFTER[0])
    explorer.set(stage=BEFORE_AFTER[1])
    monkeypatch.setattr(module, "embed_patches", None)
    explorer.set(stage=BEFORE_AFTER[0])
    explorer.set(stage=BEFORE_AFTER[1])


def test_equal_runs_have_equal_maps(explorer, run):
    again = embedding(run, most=12)
    np.testing.assert_array_equal(again.map.plane, explorer._map(again["stage"]).plane)


def test_without_stage_one_there_is_the_map_before_and_a_word_about_the_other(tmp_path):
    explorer = embedding(open_tiny(tmp_path, WHOLE, **SCENES), most=6)
    assert explorer["stage"] == BEFORE_AFTER[0]
    before = explorers.shown(explorer)
    with pytest.raises(MissingStage):
        explorer.set(stage=BEFORE_AFTER[1])
    assert "run 02_stage1_adaptation" in explorer.alarm.value and explorers.shown(explorer) == before
    assert BEFORE_AFTER[0] in explorer.figure().get_suptitle()


def test_a_map_of_one_patch_is_refused(run):
    with pytest.raises(ValueError, match="1 patches .most=1.: a map needs two or more"):
        embedding(run, most=1)
    assert embedding(run, most=2).controls["patch"].max == 2


def test_a_viewer_without_widgets_gets_a_still_image(explorer):
    bundle = explorer._repr_mimebundle_()
    assert len(bundle["image/png"]) > 1000 and "application/vnd.jupyter.widget-view+json" in bundle
    assert "still image" in bundle["text/plain"]
