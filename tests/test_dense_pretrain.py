"""The training of the dense tower, as small as it goes: what moves, what is repeatable, and what the file is."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny import same, state

from clippan_lib.clip.aims import AIMS
from clippan_lib.clip.model import load_clip
from clippan_lib.training import dense_pretrain as module
from clippan_lib.training.deliveries import cut, make
from clippan_lib.training.dense_pretrain import DenseConfig, held, new_model, step, train
from clippan_lib.training.judge import Judge, shown

CONFIG = DenseConfig(deliveries=2, held_out=1, steps=3, batch=2, candidates=2, ranked=1, crop=6)


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
    with safe_open(tmp_path / "new" / "open_clip_model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["facts"]) == facts and facts["steps"] == 1
    towers = load_clip(f"local-dir:{tmp_path / 'new'}")
    assert towers.full_resolution and towers.dim == 64
