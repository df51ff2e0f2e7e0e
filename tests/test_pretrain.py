"""How the embedded CLIP is trained: what moves, what is repeatable; and what the shipped file is."""

import json
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import same, state

from clippan_lib.clip.aims import AIMS
from clippan_lib.clip.captioned import COVER_NAMES, VARIANTS, draw_captions
from clippan_lib.clip.model import load_clip
from clippan_lib.clip.prompts import PROMPTS
from clippan_lib.data.synthetic import COVERS
from clippan_lib.training import pretrain as module
from clippan_lib.training.deliveries import cut, make
from clippan_lib.training.judge import Judge, shown
from clippan_lib.training.pretrain import PretrainConfig, accuracies, held, new_model, step, train

ASSETS = Path(str(files("clippan_lib.assets")))
USED, UNUSED = (open_clip.tokenize(word)[0, 1].item() for word in ("image", "zebra"))
CONFIG = PretrainConfig(deliveries=2, held_out=1, steps=3, batch=2, candidates=2, ranked=1, crop=6)


def facts_of(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["facts"])


@pytest.fixture(scope="module")
def deliveries():
    return [make(4_970_000 + number, ("exp", "gsa")) for number in range(2)]


def test_a_step_moves_both_towers_and_the_weights_of_bands(deliveries):
    model = new_model(0)
    for name, parameter in model.named_parameters():
        if ".mix." in name:  # they begin at 0, and the layers before them then have no gradient
            torch.nn.init.normal_(parameter, std=0.1)
    loss, record = step(Judge(model), deliveries, replace(CONFIG, truth_share=0.5), np.random.default_rng(0))
    loss.backward()
    still = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert still == set()
    silent = {name for name, parameter in model.named_parameters() if not parameter.grad.any()}
    assert silent == set()
    assert set(record) == {"cosine", "of_aims", "right", "caption"} and np.isfinite(loss.item())


def test_a_training_is_repeatable_and_leaves_torchs_random_state(deliveries, tmp_path):
    torch.manual_seed(1)
    before, found = torch.random.get_rng_state(), []
    for _ in range(2):
        model = new_model(3)
        train(model, deliveries, deliveries[:1], CONFIG, tmp_path)
        found.append(state(model))
    assert same(*found) and torch.equal(before, torch.random.get_rng_state())
    assert not same(found[0], state(new_model(3)))


def test_held_out_scores_are_of_every_aim_with_seen_and_unseen_wordings(deliveries):
    scores = held(Judge(new_model(0)), deliveries[:1], CONFIG, cuts=1)
    expected = {f"{name}{unseen}" for name in AIMS for unseen in ("", " (unseen)")}
    assert set(scores) == expected | {"right"} and all(-1 <= value <= 1 for value in scores.values())


def test_a_cut_lies_inside_and_is_drawn_by_its_seed(deliveries):
    parts = [cut(deliveries[0], 3, 6, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert parts[0].gt.shape[-2:] == parts[0].fused.shape[-2:] == parts[0].pan.shape[-2:] == (24, 24)
    assert torch.equal(parts[0].fused, parts[1].fused) and not torch.equal(parts[0].gt, parts[2].gt)
    whole = deliveries[0].gt.unfold(2, 24, 4).unfold(3, 24, 4).flatten(1, 3)
    assert (
        (parts[0].gt[0].flatten() == whole.reshape(1, 4, -1, 24 * 24).movedim(2, 1).flatten(2)[0])
        .all(1)
        .any()
    )


def test_bands_are_shown_between_nought_and_one(deliveries):
    tower = new_model(0).visual.trunk
    how = shown(deliveries[0], tower, None)
    seen = ((deliveries[0].lrms - how.low) / how.span).flatten(2)
    low, high = np.quantile(seen.numpy(), [0.02, 0.98], axis=2)
    assert low == pytest.approx(0, abs=1e-4) and high == pytest.approx(1, abs=1e-4)
    others = [shown(deliveries[0], tower, np.random.default_rng(seed)).span for seed in (0, 1)]
    assert not torch.equal(*others)


def test_the_command_writes_weights_with_their_facts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "make", lambda seed: make(seed, ("exp",)))
    arguments = ["--out", str(tmp_path / "new"), "--steps", "1", "--deliveries", "4", "--held-out", "1"]
    module.main(arguments)
    facts = json.loads(capsys.readouterr().out)
    assert facts_of(tmp_path / "new" / "open_clip_model.safetensors") == facts and facts["steps"] == 1
    assert set(facts["held_out_accuracies"]) >= {"modality_wald", "variant", "cover"}
    towers = load_clip(f"local-dir:{tmp_path / 'new'}")
    assert towers.full_resolution and towers.dim == 64


def test_unseen_wordings_are_in_no_training():
    captions = {text for templates in VARIANTS.values() for text in templates}
    trained = {text for aim in AIMS.values() for text in aim.wordings}
    unseen = {text for aim in AIMS.values() for text in aim.unseen}
    assert len(unseen) >= 2 * len(AIMS) and not unseen & (captions | trained)


def test_words_of_no_caption_keep_their_rows(deliveries, tmp_path):
    model = new_model(3)
    before = model.token_embedding.weight.detach().clone()
    train(model, deliveries, deliveries[:1], CONFIG, tmp_path)
    assert torch.equal(before[UNUSED], model.token_embedding.weight[UNUSED])
    assert not torch.equal(before[USED], model.token_embedding.weight[USED])


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


def test_the_model_card_holds_the_facts_of_the_shipped_file():
    card = (ASSETS / "MODEL_CARD.md").read_text()
    block = re.search(r"```json\n(.*?)```", card, re.DOTALL)
    assert json.loads(block.group(1)) == facts_of(ASSETS / "embedded_clip.safetensors")


def test_the_shipped_file_is_small_half_precision_and_an_ordinary_checkpoint():
    path = ASSETS / "embedded_clip.safetensors"
    assert path.stat().st_size <= 10_000_000
    tensors = load_file(path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert tensors["token_embedding.weight"].shape[0] == 49408
    new_model(0).load_state_dict(tensors, strict=True)
    untouched = new_model(facts_of(path)["seed"]).token_embedding.weight[UNUSED].half()
    assert torch.equal(tensors["token_embedding.weight"][UNUSED], untouched)


def test_the_shipped_weights_tell_unseen_lrms_pan_and_hrms_apart_and_point_at_the_truth(deliveries):
    judge = Judge(load_clip().model)
    scores, held_out = (
        accuracies(judge, deliveries, CONFIG),
        held(judge, deliveries, PretrainConfig(), cuts=2),
    )
    assert scores["modality_wald"] > 0.8
    assert held_out["truth"] > 0.15 and held_out["right"] > 0.58
