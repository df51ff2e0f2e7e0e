"""Pre-training moves what it should and writes a file open_clip loads; the shipped weights do their job."""

import json
import re
from importlib.resources import files
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from clippan_lib.clip.captioned import (
    COVER_NAMES,
    VARIANTS,
    augment,
    draw_captions,
    make_patches,
    show_variant,
)
from clippan_lib.clip.model import load_clip
from clippan_lib.clip.pretrain import PretrainConfig, accuracies, caption_loss, new_model, pretrain, train
from clippan_lib.clip.prompts import PROMPTS
from clippan_lib.data.synthetic import COVERS

TINY = PretrainConfig(scenes=2, held_out_scenes=1, patches=2, steps=2, per_variant=2)
ASSETS = Path(str(files("clippan_lib.assets")))
UNUSED_TOKEN = open_clip.tokenize("zebra")[0, 1].item()


@pytest.fixture(scope="module")
def patches():
    return make_patches(3_000_000, 10, 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("pretrain") / "made"
    return out, pretrain(out, TINY)


@pytest.fixture(scope="module")
def shipped():
    return load_clip()


def facts_of(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["facts"])


def test_a_run_writes_one_file_that_open_clip_loads_strictly(run):
    out, facts = run
    assert [path.name for path in out.iterdir()] == ["embedded_clip.safetensors"]
    written = load_file(out / "embedded_clip.safetensors")
    new_model(1).load_state_dict(written, strict=True)
    towers = load_clip("embedded", str(out / "embedded_clip.safetensors"))
    assert towers.dim == 128 and towers.image_size == (64, 64)
    for name, tensor in towers.model.state_dict().items():
        assert torch.equal(tensor, written[name].to(tensor.dtype)), name
    assert facts_of(out / "embedded_clip.safetensors") == facts
    assert facts["steps"] == 2 and set(facts["held_out"]) >= {"modality_wald", "variant", "cover"}


def test_training_moves_every_tensor_but_leaves_unused_words_as_they_were(patches):
    model, before = new_model(0), new_model(0).state_dict()
    losses = train(model, patches, TINY)
    after = model.state_dict()
    assert len(losses) == 2 and not model.training
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert still == []
    table = "token_embedding.weight"
    used = open_clip.tokenize("image")[0, 1].item()
    assert torch.equal(before[table][UNUSED_TOKEN], after[table][UNUSED_TOKEN])
    assert not torch.equal(before[table][used], after[table][used])


def test_the_same_seed_trains_the_same_weights_and_another_seed_others(patches):
    def weights(seed: int) -> torch.Tensor:
        model = new_model(seed)
        train(model, patches, PretrainConfig(seed=seed, steps=1, per_variant=2))
        return model.visual.conv1.weight.detach()

    state = torch.get_rng_state()
    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
    assert torch.equal(state, torch.get_rng_state())


def test_the_caption_loss_of_equal_scores_is_the_log_of_the_number_of_choices():
    # three images over two captions: log 2; each caption over three images: log 3
    positive = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    expected = 0.5 * (torch.tensor(2.0).log() + torch.tensor(3.0).log())
    assert torch.isclose(caption_loss(torch.zeros(3, 2), positive), expected)


def test_the_caption_loss_ignores_a_caption_true_of_no_image_on_the_text_side():
    positive = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    logits = torch.tensor([[0.0, -1e4], [0.0, -1e4]])
    assert torch.isclose(caption_loss(logits, positive), 0.5 * torch.tensor(2.0).log())


def test_the_caption_loss_is_zero_at_a_perfect_match_and_has_a_true_gradient():
    positive = torch.eye(3)
    assert caption_loss(100 * positive, positive) < 1e-6
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True, generator=generator)
    truth = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1], [0, 1, 0, 0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda scores: caption_loss(scores, truth), logits)


def test_captions_name_every_variant_and_land_cover_and_fill_their_templates():
    texts, facts = draw_captions(torch.Generator().manual_seed(0))
    assert len(texts) == len(facts) == 4 * len(VARIANTS) + len(COVERS)
    assert not any("{" in text for text in texts)
    for number in range(len(VARIANTS)):
        assert ((facts[:, 0] == number) & (facts[:, 1] == -1)).any()
    for text, (variant, cover) in zip(texts, facts.tolist(), strict=True):
        assert variant >= 0 or cover >= 0
        if cover >= 0:
            assert any(name in text for name in COVER_NAMES[COVERS[cover]])


def test_every_text_of_the_prompt_sets_but_the_noise_control_is_a_caption():
    captions = {text for templates in VARIANTS.values() for text in templates}
    texts = {text for name, prompts in PROMPTS.items() if name != "noise" for text in prompts.texts}
    assert texts <= captions


def test_no_caption_is_longer_than_the_context():
    for templates in VARIANTS.values():
        for template in templates:
            assert open_clip.tokenize(template.format(cover="an agricultural area")).count_nonzero() < 77


def detail(image: torch.Tensor) -> float:
    return image.diff(dim=-1).abs().mean().item()


def test_variants_are_what_they_are_called(patches):
    every, generator = torch.arange(len(patches.cover)), torch.Generator().manual_seed(0)
    shown = {name: show_variant(name, patches, every, generator) for name in VARIANTS}
    assert all(image.shape == (20, 3, 64, 64) for image in shown.values())
    for name, image in shown.items():
        grey = (image[:, 0] - image[:, 1]).abs().max() < 1e-5
        assert grey == (name in ("pan", "blurred_pan")), name
    assert detail(shown["lrms"]) < 0.9 * detail(shown["hrms"])
    assert detail(shown["blurred"]) < 0.8 * detail(shown["hrms"])
    assert detail(shown["blurred_pan"]) < 0.8 * detail(shown["pan"])
    assert detail(shown["noisy"]) > 1.3 * detail(shown["hrms"])
    assert (shown["distorted"].mean((2, 3)) - shown["hrms"].mean((2, 3))).abs().mean() > 0.02


def test_augmentation_keeps_shape_and_follows_its_generator():
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, again, other = (augment(image, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == image.shape
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_shipped_file_is_small_half_precision_and_an_ordinary_checkpoint():
    path = ASSETS / "embedded_clip.safetensors"
    assert path.stat().st_size <= 10_000_000
    tensors = load_file(path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16, torch.int64}
    assert tensors["token_embedding.weight"].shape[0] == 49408
    new_model(0).load_state_dict(tensors, strict=True)
    untouched = new_model(facts_of(path)["seed"]).token_embedding.weight[UNUSED_TOKEN].half()
    assert torch.equal(tensors["token_embedding.weight"][UNUSED_TOKEN], untouched)


def test_the_shipped_weights_tell_unseen_lrms_pan_and_hrms_apart(shipped, patches):
    scores = accuracies(shipped.model, patches)
    assert scores["modality_wald"] > 0.9
    assert scores["variant"] > 0.6
    assert scores["cover"] > 0.5


def test_towers_and_pretraining_see_the_same_picture(shipped, patches):
    images = show_variant("pan", patches, torch.arange(4), torch.Generator().manual_seed(0))
    scores = shipped.encode_image(images) @ shipped.encode_text(list(PROMPTS["wald"].texts)).T
    assert (scores.argmax(1) == 1).all()


def test_the_model_card_holds_the_facts_of_the_shipped_file():
    card = (ASSETS / "MODEL_CARD.md").read_text()
    block = re.search(r"```json\n(.*?)```", card, re.DOTALL)
    assert json.loads(block.group(1)) == facts_of(ASSETS / "embedded_clip.safetensors")
