"""LoRA and learned prompts: CLIP itself at the start, what they train, and that the towers stay as they are."""

import copy
import json

import open_clip
import pytest
import torch
from tiny import SENSOR, TinyPatches, same, state
from torch import nn

from clippan_lib.clip.alternatives import CONTEXT, RANK, LearnedContext, LowRank
from clippan_lib.clip.model import load_clip
from clippan_lib.clip.prompts import PROMPTS, shuffled
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.clip.tower import TOWER
from clippan_lib.losses.guidance import guide
from clippan_lib.training.config import make_config
from clippan_lib.training.stage1 import fit_supervisor

KINDS = ("lora", "prompts")
TEXT = {"context_length": 40, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
PATCHES = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
MODELS = {
    "lora-vit": {"vision_cfg": PATCHES, "text_cfg": TEXT},
    "lora-dense": {
        "vision_cfg": {"timm_model_name": TOWER, "timm_pool": "", "timm_proj": "", "image_size": 64},
        "text_cfg": TEXT,
    },
    "lora-resnet": {
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": TEXT,
    },
    "own-text-tower": {"vision_cfg": PATCHES, "text_cfg": TEXT, "custom_text": True},
    "text-with-class-token": {
        "vision_cfg": PATCHES,
        "text_cfg": TEXT | {"embed_cls": True},
        "custom_text": True,
    },
    "short-context": {"vision_cfg": PATCHES, "text_cfg": TEXT | {"context_length": 9}},
}
# As large as those that people use; each takes seconds
LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("ViT-B-32", "RN50")]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Loads a CLIP of random weights by its name, of `MODELS` too."""
    for name, settings in MODELS.items():
        path = tmp_path_factory.mktemp("clip") / f"{name}.json"
        path.write_text(json.dumps({"embed_dim": 8} | settings))
        open_clip.add_model_config(path)
    return lambda name="lora-vit": load_clip(name, "random:0")


def make(towers, adapters, prompts="wald"):
    torch.manual_seed(0)
    supervisor, patches = Supervisor(towers, SENSOR, prompts, adapters=adapters), TinyPatches()
    supervisor.fit_stretch(patches.lrms, patches.pan)
    return supervisor


def disturb(module):
    """Stands for Stage I: no parameter that is trained keeps its first value."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def embed(supervisor):
    patches = TinyPatches(count=2)
    return {
        "lrms": supervisor.embed_lrms(patches.lrms),
        "pan": supervisor.embed_pan(patches.pan),
        "hrms": supervisor.embed_hrms(patches.gt),
        "places": supervisor.maps("hrms", patches.gt),
        "texts": supervisor.embed_texts(),
        "words": supervisor.embed_words("a sharp image"),
    }


def parts(names):
    """The first two names of each; a fusion adapter has one."""
    return {".".join(name.split(".")[: 1 if name.startswith("fuse") else 2]) for name in names}


# LoRA.


@pytest.mark.parametrize("name", ["lora-vit", "lora-dense", "lora-resnet", *LARGE])
def test_lora_begins_as_clip_itself(load, name):
    towers, rgb = load(name), torch.rand(2, 3, 40, 48)
    lora = LowRank(towers.model.visual)
    torch.testing.assert_close(lora.encode_image(towers, rgb), towers.encode_image(rgb), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        lora.encode_pixels(towers, rgb), towers.encode_pixels(rgb), atol=1e-5, rtol=1e-5
    )


def test_the_weights_of_all_layers_are_updated_and_nothing_else(load):
    block = "transformer/resblocks/0"
    weights = {"attn/in_proj_weight", "attn/out_proj/weight", "mlp/c_fc/weight", "mlp/c_proj/weight"}
    lora = LowRank(load().model.visual)
    assert {*lora.up} == {*lora.down} == {"conv1/weight"} | {f"{block}/{weight}" for weight in weights}
    assert lora.down[f"{block}/mlp/c_fc/weight"].shape == (RANK, 16)
    assert lora.up[f"{block}/mlp/c_fc/weight"].shape == (64, RANK)
    assert lora.down["conv1/weight"].shape == (RANK, 3 * 8 * 8)


@pytest.mark.parametrize("name", ["lora-vit", "lora-dense", "lora-resnet"])
def test_the_features_of_lora_are_those_of_a_clip_that_has_its_weights(load, name):
    towers, rgb = load(name), torch.rand(2, 3, 40, 48)
    kept, lora, other = state(towers), disturb(LowRank(towers.model.visual)), copy.deepcopy(towers)
    with torch.no_grad():
        for key, up in lora.up.items():
            weight = other.model.visual.get_parameter(key.replace("/", "."))
            weight.add_((up @ lora.down[key]).reshape(weight.shape))
        for method in ("encode_image", "encode_pixels"):
            found = getattr(lora, method)(towers, rgb)
            torch.testing.assert_close(found, getattr(other, method)(rgb), atol=1e-5, rtol=1e-5)
            assert not torch.allclose(found, getattr(towers, method)(rgb), atol=1e-3)
    assert same(kept, state(towers))


def test_supervisors_on_the_same_towers_do_not_see_each_others_updates(load):
    towers = load()
    plain = make(towers, "shared")
    before = embed(plain)
    first, second = disturb(make(towers, "lora")), disturb(disturb(make(towers, "lora")))
    assert not torch.allclose(embed(first)["pan"], embed(second)["pan"], atol=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in embed(plain).items())


# Learned prompts.


@pytest.mark.parametrize("name", ["embedded", "lora-vit", "own-text-tower", "text-with-class-token", *LARGE])
def test_a_context_of_words_gives_the_feature_of_the_whole_text(load, name):
    towers, words = load(name), "a photo of a"
    texts = ["dog", "multispectral image"]
    context = LearnedContext(towers, texts)
    text = getattr(towers.model, "text", towers.model)
    context.vectors.data = text.token_embedding(towers.tokens([words]))[0, 1 : 1 + CONTEXT]
    whole = towers.encode_text([f"{words} {each}" for each in texts])
    torch.testing.assert_close(context(towers, texts), whole, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(context(towers, texts), towers.encode_text(texts), atol=1e-3)


def test_a_new_context_tells_the_three_texts_apart_and_gets_their_gradient(load):
    towers = load()
    plain = towers.encode_text(["a"])
    context = LearnedContext(towers, [*PROMPTS["wald"].texts])
    features = context(towers, [*PROMPTS["wald"].texts])
    assert context.vectors.shape == (CONTEXT, 8) and features.shape == (3, towers.dim)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
    assert torch.pdist(features).min() > 1e-3
    (features[0] @ features[2]).backward()
    assert context.vectors.grad.abs().amax(1).min() > 0
    assert torch.equal(towers.encode_text(["a"]), plain)


def test_a_call_that_fails_leaves_the_text_tower_as_it_was(load, monkeypatch):
    towers = load()
    plain, context = towers.encode_text(["a"]), LearnedContext(towers, ["a"])

    def fail(*_given, **_options):
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(towers.model.transformer, "forward", fail)
        with pytest.raises(RuntimeError, match="no memory"):
            context(towers, ["a"])
    assert torch.equal(towers.encode_text(["a"]), plain)


def test_a_text_that_is_too_long_beside_the_context_is_refused_when_the_supervisor_is_built(load):
    towers = load("short-context")
    long = {"lrms": "a", "pan": "a a", "hrms": "a a a a"}
    make(towers, "lora", prompts=long)
    with pytest.raises(
        ValueError, match="'a a a a' has 6 tokens beside 4 learned ones and short-context takes 9"
    ):
        make(towers, "prompts", prompts=long)
    fitting = make(towers, "prompts", prompts=long | {"hrms": "a a a"})
    with pytest.raises(ValueError, match="'a a a a' has 6 tokens beside 4"):
        fitting.embed_words("a a a a")


def test_other_text_towers_and_tokenizers_are_refused_by_name(load):
    towers = load()
    towers.tokenizer = nn.Identity()
    with pytest.raises(
        ValueError, match=r"lora-vit \(CLIP, Identity\) takes no learned prompts.*adapters='lora'"
    ):
        LearnedContext(towers, ["a"])
    towers = load("own-text-tower")
    del towers.model.text.token_embedding
    with pytest.raises(ValueError, match=r"own-text-tower \(TextTransformer, SimpleTokenizer\) takes no"):
        LearnedContext(towers, ["a"])


# In a supervisor.


@pytest.mark.parametrize(
    ("kind", "term", "expected"),
    [
        ("lora", "lrms against its text", {"stems.lrms", "lora.down", "lora.up"}),
        ("lora", "pan against its text", {"lora.down", "lora.up"}),
        ("lora", "fused text", {"fuse_text"}),
        ("prompts", "lrms against its text", {"stems.lrms", "context.vectors"}),
        ("prompts", "pan against its text", {"context.vectors"}),
        ("prompts", "fused text", {"context.vectors", "fuse_text"}),
    ],
)
def test_each_term_of_stage_1_moves_its_own_parts_and_no_others(load, kind, term, expected):
    supervisor = disturb(make(load(), kind))
    found = embed(supervisor)
    lrms, pan, hrms = found["texts"].split(1)
    terms = {
        "lrms against its text": (found["lrms"] * lrms).sum(),
        "pan against its text": (found["pan"] * pan).sum(),
        "fused text": (supervisor.fuse_text(lrms, pan) * hrms.detach()).sum(),
    }
    terms[term].backward()
    moved = [
        name for name, each in supervisor.named_parameters() if each.grad is not None and each.grad.any()
    ]
    assert parts(moved) == expected


@pytest.mark.parametrize("name", ["lora-vit", "embedded", "lora-resnet"])
@pytest.mark.parametrize(
    ("kind", "own"), [("lora", {"lora.down", "lora.up"}), ("prompts", {"context.vectors"})]
)
def test_stage_1_trains_stems_fusion_adapters_and_the_alternative(load, name, kind, own):
    towers = load(name)
    supervisor, kept = make(towers, kind), state(towers)
    before = state(supervisor)
    # the last layer of a stem, and B of LoRA, begin at 0: what lies before them moves from the second step on
    config = make_config("smoke", adapters=kind, stage1_iterations=2, stage1_batch=2)
    fit_supervisor(supervisor, TinyPatches(count=2), config, seed=0, device="cpu")
    assert same(kept, state(towers))
    after = state(supervisor)
    moved = {part for part in before if not torch.equal(before[part], after[part])}
    assert parts(moved) == {"stems.lrms", "stems.hrms", "fuse_image", "fuse_text"} | own
    trained = {part for part, each in supervisor.named_parameters() if each.requires_grad}
    assert moved <= trained
    # a ResNet of random weights and the dense tower begin with blocks that are shut
    if "vit" in name.lower():
        assert moved == trained


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_file_and_a_state_bring_back_every_feature(load, tmp_path, kind, frozen):
    towers = load()
    supervisor = disturb(make(towers, kind, "khan"))
    before = embed(supervisor)
    if frozen:
        supervisor.freeze()
    supervisor.save(tmp_path / "supervisor.safetensors")
    loaded = Supervisor.load(tmp_path / "supervisor.safetensors", towers)
    fresh = make(towers, kind, "khan").freeze()
    fresh.load_state_dict(supervisor.state_dict())
    assert (loaded.frozen, loaded.options) == (frozen, supervisor.options)
    assert not [name for name in supervisor.state_dict() if "towers" in name]
    for other in (supervisor, loaded, fresh):
        after = embed(other)
        for name, value in before.items():
            torch.testing.assert_close(after[name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_other_prompts_keep_what_was_learned(load, kind):
    supervisor = disturb(make(load(), kind)).freeze()
    control = supervisor.with_prompts(shuffled(PROMPTS["wald"], 0))
    before, after = embed(supervisor), embed(control)
    assert all(torch.equal(before[name], after[name]) for name in before if name != "texts")
    torch.testing.assert_close(after["texts"], before["texts"][[1, 2, 0]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dense", [False, True])
def test_frozen_only_the_fused_image_receives_a_gradient(load, kind, dense):
    supervisor, patches = disturb(make(load("lora-dense"), kind)).freeze(), TinyPatches(count=2)
    hrms = patches.gt.clone().requires_grad_()
    guide(supervisor, patches.lrms, patches.pan, dense)(hrms).sum().backward()
    assert hrms.grad.abs().amax((1, 2, 3)).min() > 0
    assert supervisor.trainable_parameters() == []
    assert all(parameter.grad is None for parameter in supervisor.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_lessons_of_drawn_scenes_train_it_too(load, kind):
    supervisor = make(load("lora-dense"), kind)
    before = state(supervisor)
    terms = {"w_inter": 0.0, "w_intra": 0.0, "w_fusion": 0.0, "w_pointing": 1.0, "guidance": "dense"}
    config = make_config("smoke", stage1_iterations=2, drawn=1, drawn_batch=1, **terms)
    fit_supervisor(supervisor, TinyPatches(), config, seed=0, device="cpu")
    moved = parts(part for part, value in state(supervisor).items() if not torch.equal(value, before[part]))
    own = {"lora.down", "lora.up"} if kind == "lora" else {"context.vectors"}
    assert own <= moved
