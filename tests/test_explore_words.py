"""The explorer of words shows the walk that `fusion.walk` makes, keeps its steps, and refuses what it cannot walk."""

import json

import numpy as np
import open_clip
import pytest
import torch
from explorers import names, seen, shown

from clippan_lib.clip import Supervisor, load_clip
from clippan_lib.clip.aims import AIMS
from clippan_lib.clip.tower import TOWER
from clippan_lib.data import Batch, Scene
from clippan_lib.data.stacks import MemoryStack
from clippan_lib.evaluation.gates import axes
from clippan_lib.explore import words
from clippan_lib.explore.base import STILL
from clippan_lib.explore.words import MOST, OWN
from clippan_lib.fusion import get_method
from clippan_lib.fusion.walk import SIZE, walk
from clippan_lib.losses.guidance import guide
from clippan_lib.mtf import degrade
from clippan_lib.sensors import get_sensor
from clippan_lib.training.deliveries import deviation_of

QB = get_sensor("QB")
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
DENSE = {"timm_model_name": TOWER, "timm_pool": "", "timm_proj": "", "image_size": 64}
STARTS = {name: get_method(name, QB, 4) for name in ("exp", "gsa")}
TOLD = {"gnyq": QB.gnyq, "ratio": 4}
# One other value of each control
CHANGES = {
    "aim": "softer",
    "text": "an image of gold",
    "start": "gsa",
    "steps": 1,
    "row": 16,
    "column": 100,
    "size": 32,
}


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "words-dense.json"
    path.write_text(json.dumps({"embed_dim": 8, "vision_cfg": DENSE, "text_cfg": TEXT}))
    open_clip.add_model_config(path)
    return load_clip("words-dense", "random:0")


def scene(height=96, width=128):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 4, height // 8, width // 8, generator=generator)
    gt = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0.05, 0.95)
    gt = (gt + 0.05 * torch.rand(gt.shape, generator=generator)).clamp(0, 1)
    batch = Batch(degrade(gt, QB.gnyq, 4), gt.mean(1, keepdim=True), None, torch.zeros(1, dtype=torch.int64))
    stack = MemoryStack(("a scene",), QB, "full", height // 4, width // 4, False, 1000.0, lambda _: batch)
    return Scene(stack, 0)


@pytest.fixture(scope="module")
def view(towers):
    return words(scene(), STARTS, towers)


@pytest.fixture(autouse=True)
def as_at_first(view):
    yield
    view.set(aim="sharper", start="exp", steps=3, row=48, column=64, size=96)


@pytest.fixture
def counted(monkeypatch):
    """Gradients, and features of each role, from here on."""
    counts = dict.fromkeys(("lrms", "pan", "hrms"), 0)
    original = Supervisor.maps

    def count(self, role, image):
        counts[role] += 1
        return original(self, role, image)

    monkeypatch.setattr(Supervisor, "maps", count)
    return counts


def test_every_control_changes_what_is_shown(view):
    assert set(CHANGES) == set(view.controls)
    view.set(size=64)
    for name, value in CHANGES.items():
        picture, before = shown(view), view[name]
        view.controls[name].value = value
        assert shown(view) != picture, f"{name} has no effect"
        view.controls[name].value = before


def test_what_is_shown_is_the_walk_from_the_start(view, towers):
    view.set(aim="softer", start="gsa", steps=3, size=64, row=0, column=127)
    assert view.area == (0, 64, 64)
    batch, here = view.scene.read(), (..., slice(0, 64), slice(64, 128))
    lrms, pan = batch.lrms[..., :16, 16:32], batch.pan[here]
    start = STARTS["gsa"](batch.lrms, batch.pan)[here]
    torch.testing.assert_close(view.before, start.float())
    supervisor = Supervisor.as_it_is(towers, QB, batch.lrms, batch.pan)
    with torch.no_grad():
        loss = guide(supervisor, lrms, pan, True, view["text"])
    expected = walk(view.before, loss, deviation_of(batch.lrms), steps=3, size=SIZE, **TOLD)
    torch.testing.assert_close(view.after, expected)
    assert view.table.shown.to_dict() == pytest.approx(axes(expected, lrms, pan, *TOLD.values()), rel=1e-4)
    change = 100 * (view.table.shown / view.table.start - 1)
    assert view.table.change.tolist() == pytest.approx(change.tolist())
    assert "after 3 steps" in view.numbers.value and "sharpness" in view.numbers.value


def test_without_steps_nothing_has_changed(view):
    view.set(steps=0)
    assert torch.equal(view.before, view.after) and (view.table.change.dropna() == 0).all()


def test_steps_are_kept_and_the_pair_is_looked_at_once(view, counted):
    view.set(text="an image of lead")
    counted.update(dict.fromkeys(counted, 0))
    view.set(steps=5, text="an image of silver")
    assert counted == {"lrms": 0, "pan": 0, "hrms": 6}  # the rate is found at the start
    view.set(steps=2)
    view.set(steps=0)
    assert counted["hrms"] == 6
    view.set(steps=6)
    assert counted["hrms"] == 7
    view.set(start="gsa")
    assert counted == {"lrms": 0, "pan": 0, "hrms": 7 + 7}
    view.set(size=64)
    assert counted["lrms"] == counted["pan"] == 1
    view.set(text="an image of bronze")
    assert counted["lrms"] == 1


def test_an_aim_sets_the_words_and_other_words_are_ones_own(view):
    view.set(aim="no halos")
    assert view["text"] == AIMS["no halos"].wordings[0]
    view.set(text="soup")
    assert view["aim"] == OWN and view["text"] == "soup"
    view.set(text=AIMS["softer"].wordings[0])
    assert view["aim"] == "softer"
    view.set(aim=OWN)
    assert view["text"] == AIMS["softer"].wordings[0]


def test_words_that_say_nothing_or_are_too_many_are_refused_and_the_picture_stays(view):
    picture = shown(view)
    for text, told in ((" ", "the words are blank"), ("sharp " * 80, "tokens and words-dense takes 77")):
        with pytest.raises(ValueError, match=told):
            view.set(text=text)
        assert told in view.alarm.value and shown(view) == picture
    view.set(text="a sharper image")
    assert view.alarm.value == ""


def test_steps_have_an_end(view):
    with pytest.raises(ValueError, match=f"steps cannot be 99: it lies between 0 and {MOST}"):
        view.set(steps=99)


def test_the_scene_is_shown_with_the_area_and_a_click_moves_it(view):
    view.set(size=32)
    assert names(view.pictures) == ["a scene", "exp: the start", "after 3 steps", "difference"]
    assert view.pictures.frames[0]["box"] == view.area == (32, 48, 32)
    view.pictures._handle_custom_msg({"kind": "click", "frame": 0, "row": 20.0, "column": 30.0}, [])
    assert view.area == (4, 12, 32) and view.pictures.frames[0]["box"] == (4, 12, 32)
    expected = (view._stretch.apply(view.after) * 255).round()
    np.testing.assert_array_equal(seen(view.pictures, 2), expected.astype(np.uint8))


def test_looking_closer_walks_no_step_and_a_new_area_is_seen_whole(view, counted):
    view.pictures.wanted = [4, 8.0, 16.0, 24]
    assert view.pictures.view == [4, 8, 16, 24] and counted["hrms"] == 0
    view.set(steps=2)
    assert view.pictures.view[1:] == [8, 16, 24]
    view.set(size=64)
    assert view.pictures.view[1:] == [0, 0, 64] and view.pictures.extent == [64, 64]


def test_the_pointer_is_told_what_is_under_it(view, monkeypatch):
    told = []
    monkeypatch.setattr(view.pictures, "send", lambda message: told.append(message["text"]))
    view.pictures._handle_custom_msg({"kind": "hover", "frame": 2, "row": 7.5, "column": 9.0}, [])
    top, left, _ = view.area
    values = " ".join(f"{value:.0f}" for value in view.after[0, :, 7, 9] * 1000)
    assert told == [f"row {top + 7}, column {left + 9}: after 3 steps {values} DN"]


def test_the_figure_says_what_its_numbers_are(view):
    axes_of = view.figure().axes
    assert [ax.get_title() for ax in axes_of[:2]] == ["exp: the start", "after 3 steps"]
    assert axes_of[2].get_title().startswith("difference\nmean ") and axes_of[2].get_title().endswith(" DN")
    assert axes_of[3].get_xlabel().endswith("mean over bands (DN)")
    assert "a sharper image" in view.figure().get_suptitle()
    assert view._repr_mimebundle_()["text/plain"] == STILL


def test_what_cannot_be_walked_is_refused(towers, tmp_path):
    path = tmp_path / "words-patches.json"
    vision = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
    path.write_text(json.dumps({"embed_dim": 8, "vision_cfg": vision, "text_cfg": TEXT}))
    open_clip.add_model_config(path)
    with pytest.raises(ValueError, match="CLIP words-patches has no features of pixels"):
        words(scene(), STARTS, load_clip("words-patches", "random:0"))
    with pytest.raises(ValueError, match="no image to start from"):
        words(scene(), {}, towers)
    with pytest.raises(ValueError, match="24×128 PAN px: give one of 32"):
        words(scene(height=24), STARTS, towers)
    with pytest.raises(ValueError, match=r"flat has shape \(1, 4, 9, 9\)"):
        words(scene(), {"flat": torch.zeros(1, 4, 9, 9)}, towers)
