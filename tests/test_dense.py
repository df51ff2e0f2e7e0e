"""The language term at every place: features of places of three kinds of CLIP, and what trains by them."""

import json
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from tiny import SENSOR, TinyPatches, same, state

from clippan_lib.clip.model import load_clip
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.clip.tower import TOWER
from clippan_lib.evaluation import protocol
from clippan_lib.fusion.networks.pnn import PNN
from clippan_lib.losses.guidance import dense_direction, directions, guide, guides
from clippan_lib.mtf import upsample
from clippan_lib.sensors import get_sensor
from clippan_lib.training.batches import PatchStore
from clippan_lib.training.config import make_config
from clippan_lib.training.stage2 import train_fusion

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
VISION = {
    "tiny-dense": {"timm_model_name": TOWER, "timm_pool": "", "timm_proj": "", "image_size": 64},
    "tiny-patches": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "tiny-resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "tiny-vitamin": {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "", "image_size": 160},
}
QB = get_sensor("QB")


@pytest.fixture(scope="module", params=[name for name in VISION if name != "tiny-vitamin"])
def name(request, tmp_path_factory):
    return registered(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return registered("tiny-dense", tmp_path_factory)


def registered(name, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / f"{name}.json"
    path.write_text(json.dumps({"embed_dim": 8, "vision_cfg": VISION[name], "text_cfg": TEXT}))
    open_clip.add_model_config(path)
    return name


def supervisor(name, sensor=SENSOR):
    torch.manual_seed(0)
    found = Supervisor(load_clip(name, "random:0"), sensor, "wald")
    patches = TinyPatches()
    found.fit_stretch(patches.lrms, patches.pan)
    return found


def batch():
    patches = TinyPatches(count=2)
    return patches.lrms, patches.pan, patches.gt


def test_places_have_features_in_the_space_of_images(name):
    towers = load_clip(name, "random:0")
    maps = towers.encode_pixels(torch.rand(2, 3, 40, 48))
    sides = {"tiny-dense": (40, 48), "tiny-patches": (4, 4), "tiny-resnet": (2, 2)}[name]
    assert maps.shape == (2, towers.dim, *sides)
    assert towers.full_resolution == (name == "tiny-dense")


def test_a_dense_tower_looks_at_an_image_as_large_as_it_is(dense):
    towers, rgb = load_clip(dense, "random:0"), torch.rand(2, 3, 40, 48)
    of_image = F.normalize(towers.encode_pixels(rgb).mean((-2, -1)), dim=1)
    torch.testing.assert_close(towers.encode_image(rgb), of_image)


def test_a_transformers_places_are_its_last_patches_projected(tmp_path_factory):
    towers = load_clip(registered("tiny-patches", tmp_path_factory), "random:0")
    visual, rgb = towers.model.visual, torch.rand(1, 3, 32, 32)
    visual.output_tokens = True
    _, tokens = visual((rgb - towers.mean.view(3, 1, 1)) / towers.std.view(3, 1, 1))
    visual.output_tokens = False
    torch.testing.assert_close(towers.encode_pixels(rgb).flatten(2).mT, tokens @ visual.proj)


def test_a_tower_without_features_of_places_is_named(tmp_path_factory):
    towers = load_clip(registered("tiny-vitamin", tmp_path_factory), "random:0")
    with pytest.raises(ValueError, match=r"TimmModel.*guidance='global'"):
        towers.encode_pixels(torch.rand(1, 3, 32, 32))


def test_the_guide_is_the_equation_of_images_or_of_places(name):
    of, (lrms, pan, hrms) = supervisor(name).freeze(), batch()
    texts = of.embed_texts()
    expected = directions(of.embed_hrms(hrms), of.embed_lrms(lrms), of.embed_pan(pan), texts)
    torch.testing.assert_close(guide(of, lrms, pan)(hrms), expected)
    adapter = of.image_adapters["shared"]

    def maps(role, image):
        places = of.towers.encode_pixels(of.stems[role](image)).movedim(1, -1)
        # the equation, pixel by pixel, in the unit of the tower's features
        mixed = adapter.residual * adapter.bottleneck(places) + (1 - adapter.residual) * places
        return (mixed / (1 - adapter.residual)).movedim(-1, 1)

    seen = upsample(lrms, 4) if of.towers.full_resolution else lrms
    expected = dense_direction(maps("hrms", hrms), maps("lrms", seen), maps("pan", pan), texts)
    torch.testing.assert_close(guide(of, lrms, pan, dense=True)(hrms), expected)


@pytest.mark.parametrize("places", [False, True])
def test_a_guide_moves_the_fused_image_and_nothing_else(name, places):
    of, (lrms, pan, hrms) = supervisor(name).freeze(), batch()
    images = [image.clone().requires_grad_() for image in (lrms, pan, hrms)]
    guide(of, images[0].detach(), images[1].detach(), places)(images[2]).sum().backward()
    assert [image.grad is not None for image in images] == [False, False, True]
    assert images[2].grad.abs().amax((1, 2, 3)).min() > 0
    assert all(parameter.grad is None for parameter in of.parameters())


def test_a_network_is_trained_by_what_places_say(dense):
    of, network = supervisor(dense), PNN(4, 4, hidden=(6, 4), kernels=(5, 3, 3))
    weights = {"w_spec": 0, "w_spat": 0, "w_qnr": 0, "w_pseudo": 0, "w_language": 1}
    config = make_config("smoke", guidance="dense", warm_start=False, stage2_iterations=3, **weights)
    before, frozen = state(network), state(of)
    history = train_fusion(
        network, PatchStore(TinyPatches(), "cpu"), config, supervised=False, supervisor=of, seed=0
    )
    assert all(not torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert same(frozen, state(of))
    assert [row["total"] for row in history.rows] == [row["language"] for row in history.rows]


def test_bands_are_shown_as_the_tower_has_learned_to_see_them(dense):
    towers = load_clip(dense, "random:0")
    of = Supervisor(towers, QB)
    learned = towers.weights_of_bands(np.array([478.0, 546.0, 659.0, 833.0]))
    for role in ("lrms", "hrms"):
        torch.testing.assert_close(of.stems[role].weight, learned)
    torch.testing.assert_close(of.stems["pan"].weight, towers.weights_of_pan)
    assert torch.equal(Supervisor(towers, QB, stem="rgb").stems["hrms"].weight, torch.eye(4)[[2, 1, 0]])
    unnamed = replace(QB, bands=("one", "two", "three", "four"))
    assert torch.equal(Supervisor(towers, unnamed).stems["hrms"].weight, torch.eye(4)[[2, 1, 0]])


def test_texts_are_judged_by_the_loss_of_every_place(dense):
    of, patches = supervisor(dense).freeze(), TinyPatches(count=3)
    patches.scene_of = lambda index: index
    fusions = protocol.embed_fusions(of, patches, lambda lrms, pan: upsample(lrms, 4), dense=True)
    texts = protocol.text_steps(of, [of.prompts])[of.prompts.name]
    with torch.no_grad():
        loss = guide(of, patches.lrms, patches.pan, dense=True)(patches.gt)
    torch.testing.assert_close(
        protocol.agreement(texts[None], fusions.steps[protocol.TRUE])[0], 1 - loss.double(), atol=1e-5, rtol=0
    )


def test_the_pair_is_looked_at_once_for_any_number_of_words(dense, monkeypatch):
    made, (lrms, pan, gt) = supervisor(dense).freeze(), batch()
    told = guides(made, lrms, pan, dense=True)
    alone = [guide(made, lrms, pan, True, words)(gt) for words in (None, "a blurred image")]
    looked, original = [], Supervisor.maps
    monkeypatch.setattr(
        Supervisor, "maps", lambda self, role, image: looked.append(role) or original(self, role, image)
    )
    found = [told(words)(gt) for words in (None, "a blurred image")]
    assert looked == ["hrms", "hrms"] and not torch.equal(*found)
    torch.testing.assert_close(found, alone)


def test_a_clip_as_it_is_has_its_own_features_and_leaves_the_random_state(dense):
    (lrms, pan, _), towers = batch(), load_clip(dense, "random:0")
    before = torch.get_rng_state()
    made = Supervisor.as_it_is(towers, SENSOR, lrms, pan)
    assert torch.equal(torch.get_rng_state(), before) and made.frozen
    assert not made.stretch("lrms").lo.isnan().any()
    torch.testing.assert_close(made.embed_texts(), towers.encode_text(list(made.prompts.texts)))
    shown = made.stems["pan"](pan)
    torch.testing.assert_close(made.maps("pan", pan), towers.encode_pixels(shown))
