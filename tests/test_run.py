"""A run as the notebooks see it: stage after stage in one folder, at smoke size."""

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from layouts import h5_dataset, save_h5
from tiny import same, tiny_manifest

from clippan_lib.clip import shuffled
from clippan_lib.data import Dataset
from clippan_lib.errors import CheckpointError, DataError, MissingStage, Refusal
from clippan_lib.files import write_json
from clippan_lib.fusion import build_network, get_method
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.runs.folder import RunFolder, find_network
from clippan_lib.runs.plan import plan_run
from clippan_lib.runs.run import open_run
from clippan_lib.runs.settings import Settings, as_configured, refuse_unfit
from clippan_lib.sensors import get_sensor
from clippan_lib.training.config import make_config

MANIFEST = tiny_manifest()
# Of settings.json, as versions without a checksum wrote it
RECORD = {"dataset": "tiny", "manifest": "digest", "data": {}, "preset": "smoke", "seed": 0}
RECORD |= {"config": {}, "keys": {}, "campaign": False}


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "tiny.yaml").write_text(MANIFEST)

    def open_with(name="run", **overrides):
        return open_run(tmp_path / "tiny.yaml", "", tmp_path / name, "smoke", 0, "cpu", overrides)

    return open_with


def test_opening_a_run_waits_for_no_package_that_it_may_not_need():
    code = "import sys, clippan_lib.figures, clippan_lib.runs.run; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"open_clip", "torchvision", "sklearn", "nbformat"} & set(loaded.stdout.split())


def test_the_stack_of_a_run_takes_pan_as_sharp_as_the_truth_of_each_resolution(opened):
    run = opened(spat_pan="truth")
    mean = sum(run.dataset.sensor.gnyq) / 4
    found = {where: run.stack(where).sharpness for where in ("full", "reduced")}
    assert found == pytest.approx({"full": mean / run.dataset.sensor.gnyq_pan, "reduced": mean / 0.45})
    assert opened("other", spat_pan="pan").stack("full").sharpness == 1
    batch = run.dataset.scenes("test", "reduced")[0].read()
    expected = replace(get_method("stack", run.dataset.sensor, 4), sharpness=found["reduced"])
    assert torch.equal(run.stack("reduced")(batch.lrms, batch.pan), expected(batch.lrms, batch.pan))


def test_training_patches_take_the_configured_stride_and_others_do_not_overlap(opened):
    run = opened(stride_full=8, patch=16, most_patches=None)
    assert len(run.patches("train", "full")) == 2 * 7 * 7
    assert len(run.patches("test", "full")) == 4 * 4


@pytest.fixture
def large(tmp_path):
    """As `opened`, of scenes that can be degraded twice; nothing of them is drawn before it is read."""
    (tmp_path / "large.yaml").write_text(tiny_manifest(size=1040))

    def open_with(**overrides):
        return open_run(tmp_path / "large.yaml", "", tmp_path / "large", "smoke", 0, "cpu", overrides)

    return open_with


def test_one_scale_down_a_run_sees_the_scenes_degraded_and_only_the_judge_their_truth(large):
    run = large(scale="reduced")
    assert run.dataset.size("test", "full") == (65, 65) and run.dataset.size("test", "reduced") == (16, 16)
    assert [(s.resolution, s.has_gt) for s in run.judged] == [("reduced", True), ("full", True)]
    assert not run.patches("train", "full").has_gt and len(run.patches("train", "reduced")) == 2


def test_a_run_on_the_judged_scenes_is_judged_at_full_resolution_alone(large):
    run = large(scale="reduced", patches_from="judged")
    assert [scene.resolution for scene in run.judged] == ["full"]
    assert len(run.patches("train", "full")) == len(run.patches("test", "full")) == 16
    with pytest.raises(DataError, match="no test at reduced resolution .patches_from='judged'"):
        run.dataset.scenes("test", "reduced")


@pytest.fixture
def soft(opened, tmp_path):
    """As `opened`, of a sensor whose truth is halved where it is to be sharp."""
    (tmp_path / "tiny.yaml").write_text(MANIFEST.replace("sensor: QB", "sensor: GE1"))
    return opened


def test_a_sharp_truth_halves_the_scenes_of_a_soft_sensor(soft):
    delivered, sharp = soft("one", truth="delivered").dataset, soft("other", truth="sharp").dataset
    sizes = [(each.size("train", "full"), each.size("train", "reduced")) for each in (delivered, sharp)]
    assert sizes == [((64, 64), (16, 16)), ((64, 64), (8, 8))]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"scale": "reduced", "truth": "delivered"},
            r"train scenes of tiny are 16 x 16 LRMS px one scale down, and 4 x 4 one lower still, .*; patch=16 needs "
            r"64 x 64. Choose scenes 4 times as long and as wide, .*-p scale=full",
        ),
        (
            {"scale": "reduced", "truth": "sharp"},
            r"are 8 x 8 LRMS px .*, and 1 x 1 .* needs 128 x 128. .* 16 times",
        ),
        (
            {"scale": "reduced", "hrms_source": "gt"},
            "hrms_source='gt': at scale='reduced' the truth is the judge's",
        ),
        (
            {"patches_from": "judged"},
            "patches_from='judged': at scale='full' no truth judges.*set scale='reduced'",
        ),
    ],
)
def test_a_scale_that_does_not_fit_is_refused_when_a_run_is_opened(soft, tmp_path, overrides, message):
    with pytest.raises(Refusal, match=message):
        soft(**overrides)
    assert not (tmp_path / "run").exists()


def test_where_only_the_training_scenes_are_too_small_the_judged_ones_are_offered(tmp_path):
    for split, side in (("train", 16), ("test", 64)):
        save_h5(tmp_path / f"{split}_reduced.h5", count=1, side=side)
    for judged, message in (
        ("train", r"train scenes of mine are 16 x 16.*or patches_from='judged'"),
        ("judged", None),
    ):
        config = make_config("smoke", scale="reduced", patches_from=judged)
        dataset = as_configured(h5_dataset(tmp_path), config, None)
        with pytest.raises(Refusal, match=message) if message else nullcontext():
            refuse_unfit(config, dataset)


def test_a_dataset_of_test_scenes_alone_is_offered_the_judged_ones(tmp_path):
    text = tiny_manifest(train=0, size=1040).replace("val: 1", "val: 0")
    (tmp_path / "tiny.yaml").write_text(text)
    with pytest.raises(
        Refusal, match="need train full, train reduced, .*only test full, .*patches_from=judged"
    ):
        plan_run(
            tmp_path / "tiny.yaml", preset="smoke", device="cpu", changes={"scale": "reduced"}, runs=tmp_path
        )
    only = {"scale": "reduced", "patches_from": "judged"}
    run = open_run(tmp_path / "tiny.yaml", "", tmp_path / "run", "smoke", 0, "cpu", only)
    assert len(run.patches("train", "full")) == 16


def test_the_course_is_refused_the_judged_scenes_for_training(large, tmp_path):
    changes = {"scale": "reduced", "patches_from": "judged"}
    large()
    with pytest.raises(
        Refusal, match="patches_from='judged': the notebooks of the course .*use `clippan table`"
    ):
        plan_run(tmp_path / "large.yaml", preset="smoke", device="cpu", changes=changes, runs=tmp_path)


@pytest.mark.parametrize("adapters", ["shared", "prompts"])
def test_a_supervisor_without_adapters_is_clip_as_it_is(opened, adapters):
    run = opened(adapters=adapters)
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
    with pytest.raises(ValueError, match="^gate_scenes is 0$"):
        run.gates(found)
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
    cold = opened("cold", warm_start=False).with_network("pannet")
    assert (cold.config.network, cold.config.pseudo) == ("pannet", "pnn")


def test_two_networks_of_one_run_keep_their_own_training(opened):
    run = opened()
    trials = [run, run.with_network("pannet")]
    first = [trial.stage2({"plain": None}, trial.pseudo_supervisor(), "full")["plain"][0] for trial in trials]
    again = [trial.stage2({"plain": None}, trial.pseudo_supervisor(), "full")["plain"][0] for trial in trials]
    assert [type(trained.network.network).__name__ for trained in first] == ["PNN", "PanNet"]
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


def test_pseudo_supervisors_of_one_run_do_not_replace_each_other_and_a_classical_one_leaves_no_file(opened):
    run = opened(pseudo_iterations=1)
    classical = run.config.model_copy(update={"pseudo": "gsa", "warm_start": False})
    for trial in (run, run.with_network("pannet"), replace(run, config=classical)):
        trial.pseudo_supervisor()
    kept = sorted(path.name for path in (run.folder / "networks" / "reduced").iterdir())
    assert kept == ["pannet-pseudo-0.safetensors", "pnn-pseudo-0.safetensors"]


def test_a_pseudo_supervisor_that_is_another_network_is_kept_under_its_own_name(opened):
    run = opened(network="pannet", pseudo="pnn", warm_start=False)
    run.pseudo_supervisor()
    assert TrainedNetwork.load(run.folder / "networks/reduced/pnn-pseudo-0.safetensors").name == "pnn"


def keep(folder, *variants, file=None):
    """Networks of a run that say they are "resolution/variant-seed", under these names or one of their own."""
    found = []
    for name in variants:
        resolution, _, rest = name.partition("/")
        variant, _, seed = rest.rpartition("-")
        path = folder / "networks" / (file or f"{name}.safetensors")
        origin = {"resolution": resolution, "variant": variant, "seed": seed}
        TrainedNetwork(build_network("pnn", 4, 4), "pnn", get_sensor("QB"), 2047.0, origin).save(path)
        found.append(path)
    return found


def test_a_run_means_its_network_with_language_of_full_resolution_and_the_first_seed(tmp_path):
    keep(tmp_path, "full/pnn-0", "full/random CLIP-0", "full/shuffled prompts-0", "reduced/pannet-C-0")
    *_, first = keep(tmp_path, "full/pnn-C-10", "full/pnn-C-9")
    assert find_network(tmp_path) == first
    assert find_network(str(tmp_path)) == find_network(tmp_path)


def test_a_network_is_known_by_what_it_says_and_not_by_its_files_name(tmp_path):
    keep(tmp_path, "full/pnn-0", file="full/pnn-C-0.safetensors")
    [renamed] = keep(tmp_path, "full/pnn-C-0", file="full/mine.safetensors")
    assert find_network(tmp_path) == renamed


def test_a_run_finds_what_it_trained(opened):
    run = opened(stage2_iterations=1)
    run.stage1(run.new_supervisor(), "supervisor")
    variants = {"pnn": None, "pnn-C": run.adapted_supervisor()}
    trained = run.stage2(variants, run.pseudo_supervisor(), "full")["pnn-C"][0]
    kept = TrainedNetwork.load(find_network(run.folder))
    assert same(kept.network.state_dict(), trained.network.state_dict())


def test_a_file_means_itself(tmp_path):
    [path] = keep(tmp_path, "full/pnn-3")
    assert find_network(path) == path


def test_of_several_compared_networks_a_run_means_its_own(tmp_path):
    keep(tmp_path, "full/pnn-C-0", "full/pannet-C-0", "full/pannet-C-1")
    write_json(tmp_path / "settings.json", RECORD | {"config": {"network": "pannet"}})
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
    write_json(tmp_path / "settings.json", RECORD | {"config": {"network": "ship"}})
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
    assert (run.config.pseudo_title, opened("other").config.pseudo_title) == (
        "given, as given",
        "pnn, reduced-resolution",
    )


def settings_refused(opened, message, **overrides):
    with pytest.raises(Refusal, match=message):
        opened(**overrides)


def test_a_folder_is_taken_up_with_the_same_settings_only(opened, tmp_path):
    run = opened(w_qnr=0.2)
    supervisor = run.new_supervisor()
    run.stage1(supervisor, "supervisor")
    kept = run.layout.supervisor().read_bytes()
    assert opened(w_qnr=0.2, checkpoint_every=3).config.w_qnr == 0.2
    settings_refused(opened, "w_qnr is 0.2 there and 0.0 here. Give another run_dir", w_qnr=0.0)
    settings_refused(opened, "n_seeds is 1 there and 2 here", w_qnr=0.2, n_seeds=2)
    with pytest.raises(Refusal, match="seed is 0 there and 1 here"):
        open_run(tmp_path / "tiny.yaml", "", run.folder, "smoke", 1, "cpu", {"w_qnr": 0.2})
    with pytest.raises(Refusal, match="stage1_iterations is 3 there and 40 here.*pseudo_iterations is 4"):
        open_run(tmp_path / "tiny.yaml", "", run.folder, "demo", 0, "cpu", {"w_qnr": 0.2})
    (tmp_path / "tiny.yaml").write_text(MANIFEST.replace("seed: 0", "seed: 1"))
    settings_refused(opened, "the manifest has changed since", w_qnr=0.2)
    assert run.layout.supervisor().read_bytes() == kept


def test_a_folder_whose_data_or_given_network_has_changed_is_refused(opened, tmp_path):
    folder = RunFolder(tmp_path / "made")
    file = tmp_path / "given.safetensors"
    for seed in (0, 1):
        given = TrainedNetwork(build_network("pnn", 4, 4, seed), "pnn", get_sensor("QB"), 2047.0, {})
        given.save(file)
        config = make_config("smoke", pseudo=str(file))
        made = Settings("tiny", "digest", {"ms.tif": [1, 2]}, "smoke", 0, config)
        if seed == 0:
            folder.claim(made)
            folder.claim(made)
            with pytest.raises(Refusal, match=r"ms.tif, new.tif changed since"):
                folder.claim(replace(made, data={"ms.tif": [1, 3], "new.tif": [1, 1]}))
    with pytest.raises(Refusal, match="the files that decide pseudo, supervised, unsupervised have changed"):
        folder.claim(made)


def test_a_run_of_which_nothing_says_how_it_was_made_is_not_gone_on_with(opened, tmp_path):
    (tmp_path / "run" / "networks").mkdir(parents=True)
    settings_refused(opened, "settings.json does not say how it was made; give another run_dir")


@pytest.fixture
def newest(tmp_path):
    (tmp_path / "tiny.yaml").write_text(MANIFEST)

    def open_with(start=False, preset="smoke", seed=0, **overrides):
        return open_run(
            tmp_path / "tiny.yaml", "", "", preset, seed, "cpu", overrides, tmp_path / "runs", start
        )

    return open_with


def test_without_a_folder_the_newest_run_is_opened_with_its_settings(newest, tmp_path):
    first = newest(start=True)
    assert first.folder == tmp_path / "runs" / "tiny" / "smoke_pnn_seed0"
    assert newest(start=True).folder == newest().folder == first.folder
    os.utime(first.folder / "settings.json", (1, 1))
    other = newest(start=True, w_qnr=0.3)
    assert other.folder != first.folder and newest().folder == other.folder
    assert newest().config.w_qnr == 0.3
    assert newest(w_qnr=0.0).folder == first.folder
    os.utime(other.folder / "settings.json", (0, 0))
    assert newest().folder == first.folder


def test_without_a_run_those_that_are_there_are_listed(newest, tmp_path):
    with pytest.raises(MissingStage, match="no run of tiny at preset smoke, seed 0.*There is: none"):
        newest()
    assert not (tmp_path / "runs").exists()
    newest(start=True)
    for wanted in ({"preset": "demo"}, {"seed": 1}, {"w_qnr": 0.3}):
        with pytest.raises(MissingStage, match="There is: \n.*smoke_pnn_seed0: preset smoke, seed 0"):
            newest(**wanted)
    (tmp_path / "tiny.yaml").write_text(MANIFEST.replace("seed: 0", "seed: 1"))
    with pytest.raises(MissingStage, match="from these data"):
        newest()


def test_a_part_of_a_campaign_is_never_the_newest_run(newest, tmp_path):
    run = newest(start=True)
    part = run.folder.with_name("experiment") / "settings.json"
    part.parent.mkdir()
    write_json(part, run.layout.settings | {"campaign": True})
    os.utime(run.folder / "settings.json", (1, 1))
    assert newest().folder == run.folder


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"patch": 8}, r"patch=8: at ratio 4 that is 32 PAN px, .* 11 LRMS px; choose 16, 24, 32"),
        ({"patch": 12}, r"patch=12: at ratio 4 that is 48 PAN px, .*blocks of 32.*choose 16, 24, 32"),
        ({"patch": 20}, r"patch=20.* choose 16, 24, 32"),
        ({"w_inter": 0.0, "w_intra": 0.0, "w_fusion": 0.0}, "w_inter, w_intra, w_fusion are all 0"),
        (dict.fromkeys(("w_spec", "w_spat", "w_qnr", "w_pseudo"), 0.0), "w_qnr, w_pseudo are all 0"),
        ({"w_gt": 0.0}, "w_gt=0"),
    ],
)
def test_settings_that_could_not_be_trained_with_are_refused_at_once(opened, tmp_path, overrides, message):
    with pytest.raises(Refusal, match=message):
        opened(**overrides)
    assert not (tmp_path / "run").exists()


def test_a_ground_truth_stands_for_hrms_where_there_is_one_and_is_refused_elsewhere(opened, monkeypatch):
    run = opened(hrms_source="gt", stage1_iterations=0, w_inter=0.0, w_intra=0.0, w_fusion=0.0)
    batch = run.patches("test", "full").batch([0, 1])
    assert torch.equal(run.hrms(batch), batch.gt)
    method = get_method("gsa", run.dataset.sensor, run.dataset.ratio)
    assert torch.equal(run.hrms(batch, "gsa"), method(batch.lrms, batch.pan).clamp(0, 1))
    assert run.stage1(run.new_supervisor(), "supervisor").rows == []
    monkeypatch.setattr(Dataset, "has_gt", lambda *_: False)
    with pytest.raises(Refusal, match="hrms_source='gt': tiny has no ground truth at full resolution"):
        opened("other", hrms_source="gt")


def test_a_trained_network_is_found_by_its_variant_or_those_there_are_named(opened):
    run = opened(stage2_iterations=1)
    [trained] = run.stage2({"pnn": None}, run.pseudo_supervisor(), "full")["pnn"]
    assert same(run.trained("pnn", "full").network.state_dict(), trained.network.state_dict())
    with pytest.raises(MissingStage, match="run 04_stage2_training.*There is: .*networks/full/pnn-0"):
        run.trained("pnn-C", "full")
