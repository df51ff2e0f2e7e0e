"""A run as the notebooks see it: stage after stage in one folder, at smoke size."""

import pytest
import torch
from tiny import same

from clippan_lib.clip import shuffled
from clippan_lib.run import MissingStage, open_run

MANIFEST = """
name: tiny
title: A few small synthetic scenes
sensor: QB
source: {kind: synthetic, scenes: {train: 2, val: 1, test: 1}, size: 256, seed: 0}
licence: Apache-2.0
citation: none
homepage: none
how_to_get: nothing to get
"""


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "tiny.yaml").write_text(MANIFEST)

    def open_with(**overrides):
        return open_run(tmp_path / "tiny.yaml", "", tmp_path / "run", "smoke", 0, "cpu", overrides)

    return open_with


def test_training_patches_take_the_configured_stride_and_others_do_not_overlap(opened):
    run = opened(stride_full=8, patch=16)
    assert len(run.patches("train", "full")) == 2 * 7 * 7
    assert len(run.patches("test", "full")) == 4 * 4


def test_a_supervisor_without_adapters_is_clip_as_it_is(opened):
    run = opened()
    supervisor, batch = run.new_supervisor(adapted=False), run.patches("test", "full").batch([0])
    raw = supervisor.towers.encode_image(supervisor.stems["pan"](batch.pan))
    torch.testing.assert_close(supervisor.embed_pan(batch.pan), raw)
    torch.testing.assert_close(supervisor.embed_texts(), supervisor.raw_texts)


def test_new_supervisors_of_a_run_are_equal_and_leave_the_generator_alone(opened):
    run = opened()
    state = torch.get_rng_state()
    first, second = run.new_supervisor(), run.new_supervisor()
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_stage_one_leaves_a_frozen_supervisor_that_later_stages_find(opened):
    run = opened()
    with pytest.raises(MissingStage, match="run 02_stage1_adaptation with the same run_dir first"):
        run.adapted_supervisor()
    supervisor = run.new_supervisor()
    history = run.stage1(supervisor, "supervisor")
    found = run.adapted_supervisor()
    batch = run.patches("test", "full").batch([0])
    assert len(history.rows) == run.config.stage1_iterations and found.trainable_parameters() == []
    torch.testing.assert_close(found.embed_lrms(batch.lrms), supervisor.embed_lrms(batch.lrms))


def test_stage_two_trains_every_variant_from_one_start_and_finds_it_again(opened):
    run = opened(n_seeds=2)
    run.stage1(run.new_supervisor(), "supervisor")
    adapted, pseudo = run.adapted_supervisor(), run.pseudo_supervisor()
    variants = {"plain": None, "C": adapted, "shuffled": adapted.with_prompts(shuffled(adapted.prompts, 0))}
    trained = run.stage2(variants, pseudo, "full")
    assert {name: len(seeds) for name, seeds in trained.items()} == {"plain": 2, "C": 2, "shuffled": 2}
    first = {name: seeds[0].history.rows[0] for name, seeds in trained.items()}
    assert first["plain"]["spectral"] == first["C"]["spectral"] == first["shuffled"]["spectral"]
    assert first["C"]["language"] != first["shuffled"]["language"] and "language" not in first["plain"]
    again = run.stage2({"C": adapted}, pseudo, "full")
    for name, tensor in trained["C"][1].network.state_dict().items():
        assert torch.equal(tensor, again["C"][1].network.state_dict()[name]), name


def test_a_run_with_another_network_shares_all_but_network_and_start(opened):
    run = opened()
    other = run.with_network("pannet")
    assert (other.config.network, other.config.pseudo) == ("pannet", "pannet")
    assert (other.folder, other.dataset, other.seed) == (run.folder, run.dataset, run.seed)
    assert run.with_network(run.config.network) == run
    cold = opened(warm_start=False).with_network("pannet")
    assert (cold.config.network, cold.config.pseudo) == ("pannet", "pnn")


def test_two_networks_of_one_run_keep_their_own_training(opened):
    run = opened()
    trials = [run, run.with_network("pannet")]
    first = [trial.stage2({"plain": None}, trial.pseudo_supervisor(), "full")["plain"][0] for trial in trials]
    again = [trial.stage2({"plain": None}, trial.pseudo_supervisor(), "full")["plain"][0] for trial in trials]
    assert [type(trained.network).__name__ for trained in first] == ["PNN", "PanNet"]
    for before, after in zip(first, again, strict=True):
        assert same(before.network.state_dict(), after.network.state_dict())


def test_the_first_seeds_of_a_comparison_are_the_same_however_many_there_are(opened):
    run = opened(n_seeds=2)
    pseudo = run.pseudo_supervisor()
    both = run.stage2({"plain": None}, pseudo, "full")["plain"]
    [first] = run.stage2({"plain": None}, pseudo, "full", n_seeds=1)["plain"]
    assert same(first.network.state_dict(), both[0].network.state_dict())


def test_a_wrong_field_is_refused_before_the_folder_is_made(opened, tmp_path):
    with pytest.raises(ValueError, match="unknown field 'stage3_lr'"):
        opened(stage3_lr=1.0)
    assert not (tmp_path / "run").exists()
