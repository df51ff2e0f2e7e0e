"""A run as the notebooks see it: stage after stage in one folder, at smoke size."""

import subprocess
import sys

import pytest
import torch
from tiny import same, tiny_manifest

from clippan_lib.clip import shuffled
from clippan_lib.errors import CheckpointError, MissingStage
from clippan_lib.files import write_json
from clippan_lib.fusion import build_network
from clippan_lib.fusion.trained import TrainedNetwork, find_network
from clippan_lib.runs.run import open_run
from clippan_lib.sensors import get_sensor

MANIFEST = tiny_manifest()


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "tiny.yaml").write_text(MANIFEST)

    def open_with(**overrides):
        return open_run(tmp_path / "tiny.yaml", "", tmp_path / "run", "smoke", 0, "cpu", overrides)

    return open_with


def test_opening_a_run_waits_for_no_package_that_it_may_not_need():
    code = "import sys, clippan_lib.figures, clippan_lib.runs.run; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"open_clip", "torchvision", "sklearn"} & set(loaded.stdout.split())


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


def test_every_trained_network_is_left_in_a_file_that_needs_no_run(opened):
    run = opened(n_seeds=2, stage2_iterations=1)
    pseudo = run.pseudo_supervisor()
    full = run.stage2({"pnn": None, "a b": None}, pseudo, "full")
    reduced = run.stage2({"pnn": None}, pseudo, "reduced", n_seeds=1)
    folder = run.folder / "networks"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    variants = {"full/pnn": full["pnn"], "full/a b": full["a b"], "reduced/pnn": reduced["pnn"]}
    networks = {"reduced/pnn-pseudo-0": pseudo} | {
        f"{name}-{seed}": trained.network
        for name, seeds in variants.items()
        for seed, trained in enumerate(seeds)
    }
    assert files == {f"{name}.safetensors" for name in networks} and len(files) == 6
    batch = run.patches("test", "full").batch([0, 3])
    for name, network in networks.items():
        kept = TrainedNetwork.load(folder / f"{name}.safetensors")
        hrms = kept.network.to(memory_format=torch.channels_last)(batch.lrms, batch.pan)
        assert torch.equal(hrms, network(batch.lrms, batch.pan)), name
        assert (kept.name, kept.sensor, kept.max_value) == ("pnn", run.dataset.sensor, 2047)
        resolution, _, rest = name.partition("/")
        variant, _, seed = rest.rpartition("-")
        said = {"dataset": "tiny", "variant": variant, "resolution": resolution, "seed": seed}
        assert said.items() <= kept.origin.items()
        assert kept.origin["manifest"] == run.dataset.manifest.digest()
        assert type(run.config).model_validate_json(kept.origin["config"]) == run.config


def test_a_network_file_says_what_the_manifest_divides_by(opened, tmp_path):
    (tmp_path / "tiny.yaml").write_text(f"{MANIFEST}max_value: 1.0\n")
    run = opened()
    run.pseudo_supervisor()
    [path] = (run.folder / "networks").rglob("*.safetensors")
    assert TrainedNetwork.load(path).max_value == 1.0


def test_later_settings_replace_a_network_of_the_same_name(opened):
    for iterations in (1, 2):
        run = opened(stage2_iterations=iterations)
        [trained] = run.stage2({"pnn": None}, run.pseudo_supervisor(), "full")["pnn"]
        kept = TrainedNetwork.load(run.folder / "networks" / "full" / "pnn-0.safetensors")
        assert same(kept.network.state_dict(), trained.network.state_dict())


def test_pseudo_supervisors_of_one_run_do_not_replace_each_other_and_a_classical_one_leaves_no_file(opened):
    run = opened(pseudo_iterations=1)
    for trial in (run, run.with_network("pannet"), opened(pseudo="gsa", warm_start=False)):
        trial.pseudo_supervisor()
    kept = sorted(path.name for path in (run.folder / "networks" / "reduced").iterdir())
    assert kept == ["pannet-pseudo-0.safetensors", "pnn-pseudo-0.safetensors"]


def test_a_pseudo_supervisor_that_is_another_network_is_kept_under_its_own_name(opened):
    run = opened(network="pannet", pseudo="pnn", warm_start=False)
    run.pseudo_supervisor()
    assert TrainedNetwork.load(run.folder / "networks/reduced/pnn-pseudo-0.safetensors").name == "pnn"


def keep(folder, *names):
    """Files under these names in a run's folder; what is in them is not looked at."""
    for name in names:
        path = folder / "networks" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_run_means_its_network_with_language_of_full_resolution_and_the_first_seed(tmp_path):
    keep(tmp_path, "full/pnn-0", "full/random CLIP-0", "full/shuffled prompts-0", "reduced/pannet-C-0")
    keep(tmp_path, "full/pnn-C-10", "full/pnn-C-9", "full/pnn-C-copy")
    assert find_network(tmp_path) == tmp_path / "networks" / "full" / "pnn-C-9.safetensors"
    assert find_network(str(tmp_path)) == find_network(tmp_path)


def test_a_run_finds_what_it_trained(opened):
    run = opened(stage2_iterations=1)
    run.stage1(run.new_supervisor(), "supervisor")
    variants = {"pnn": None, "pnn-C": run.adapted_supervisor()}
    trained = run.stage2(variants, run.pseudo_supervisor(), "full")["pnn-C"][0]
    kept = TrainedNetwork.load(find_network(run.folder))
    assert same(kept.network.state_dict(), trained.network.state_dict())


def test_a_file_means_itself(tmp_path):
    keep(tmp_path, "full/pnn-3")
    path = tmp_path / "networks" / "full" / "pnn-3.safetensors"
    assert find_network(path) == path


def test_of_several_compared_networks_a_finished_run_means_its_own(tmp_path):
    keep(tmp_path, "full/pnn-C-0", "full/pannet-C-0", "full/pannet-C-1")
    write_json(tmp_path / "run.json", {"config": {"network": "pannet"}})
    assert find_network(tmp_path).name == "pannet-C-0.safetensors"


def test_a_run_that_leaves_its_network_open_is_refused_with_the_files_to_choose_from(tmp_path):
    keep(tmp_path, "full/pnn-0", "reduced/pnn-C-0")
    with pytest.raises(CheckpointError, match="(?s)has 0 networks.*give a file:.*pnn-0.*reduced/pnn-C-0"):
        find_network(tmp_path)
    keep(tmp_path, "full/pnn-C-0", "full/pannet-C-0")
    with pytest.raises(
        CheckpointError, match="(?s)has 2 networks.*give a file:.*full/pannet-C-0.safetensors"
    ):
        find_network(tmp_path)
    write_json(tmp_path / "run.json", {"config": {"network": "ship"}})
    with pytest.raises(CheckpointError, match="has 2 networks"):
        find_network(tmp_path)


def test_a_path_without_networks_is_refused(tmp_path):
    (tmp_path / "stage2").mkdir()
    for path in (tmp_path, tmp_path / "missing", tmp_path / "missing.safetensors"):
        with pytest.raises(CheckpointError, match="give runs/DATASET/NAME, or a file") as refusal:
            find_network(path)
        assert str(path) in str(refusal.value)


def test_a_wrong_field_is_refused_before_the_folder_is_made(opened, tmp_path):
    with pytest.raises(ValueError, match="unknown field 'stage3_lr'"):
        opened(stage3_lr=1.0)
    assert not (tmp_path / "run").exists()


def test_a_given_network_is_the_start_and_not_kept_as_if_it_had_been_trained_here(opened, tmp_path):
    file = tmp_path / "given.safetensors"
    TrainedNetwork(build_network("pnn", 4, 4, seed=7), "pnn", get_sensor("QB"), 2047.0, {}).save(file)
    before = file.read_bytes()
    run = opened(pseudo=str(file))
    pseudo = run.pseudo_supervisor()
    assert same(pseudo.state_dict(), TrainedNetwork.load(file).network.state_dict())
    assert not (run.folder / "networks").exists()
    assert [*tmp_path.glob("given*")] == [file] and file.read_bytes() == before
    assert (run.config.pseudo_title, opened().config.pseudo_title) == (
        "given, as given",
        "pnn, reduced-resolution",
    )
