"""The settings of a run."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from safetensors.torch import save_file

from clippan_lib.fusion import NETWORKS, build_network
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import get_sensor
from clippan_lib.training.config import PRESETS, STAGES, RunConfig, make_config


def test_the_paper_preset_holds_the_papers_numbers():
    config = make_config("paper")
    for stage in ("stage1", "stage2"):
        assert [getattr(config, f"{stage}_{name}") for name in ("lr", "batch", "iterations")] == [
            3e-3,
            32,
            1000,
        ]
    weights = {name: value for name, value in config.model_dump().items() if name.startswith("w_")}
    assert len(weights) == 9 and set(weights.values()) == {1.0}
    assert (config.stem, config.adapters, config.schedule, config.warm_start) == (
        "conv",
        "per_type",
        "constant",
        False,
    )


def test_the_demo_preset_holds_the_recipe_that_was_measured():
    config = make_config("demo")
    assert (config.clip_model, config.adapters, config.image_residual) == ("embedded", "shared", 0.5)
    assert (config.tau_inter, config.tau_intra) == (0.07, 0.1)
    assert (config.w_inter, config.w_intra, config.w_fusion) == (1, 1, 0.05)
    assert (config.stage1_iterations, config.stage1_batch, config.schedule) == (100, 12, "cosine")
    assert (config.pseudo_iterations, config.stage2_iterations, config.stage2_batch) == (400, 60, 8)
    assert (config.warm_start, config.stage2_lr, config.clip_norm) == (True, 3e-4, 1)
    assert (config.w_qnr, config.w_language) == (0.1, 0.02)


def test_the_smoke_preset_is_the_demo_shortened():
    smoke, demo = make_config("smoke").model_dump(), make_config("demo").model_dump()
    changed = {name for name in demo if smoke[name] != demo[name]}
    assert set(smoke["compared"]) < set(demo["compared"])
    changed.remove("compared")
    assert all(name.endswith(("iterations", "batch", "n_seeds", "checkpoint_every")) for name in changed)
    assert all(smoke[name] <= demo[name] for name in changed)


def test_a_network_is_compared_once_and_the_paper_preset_compares_all():
    assert make_config("demo", compared=["ship", "pnn", "ship"]).compared == ["ship", "pnn"]
    assert make_config("paper").compared == [*NETWORKS]
    assert make_config("paper").pseudo == "ship"


def test_every_setting_has_a_remark():
    assert all(field.description for field in RunConfig.model_fields.values())


def test_every_preset_can_be_built_and_single_fields_replaced():
    for preset in PRESETS:
        assert make_config(preset, w_qnr=0.3, clip_norm=None).w_qnr == 0.3


def test_the_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        make_config("smoke").w_qnr = 2.0


def test_an_unknown_preset_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="unknown preset 'fast'; choose from smoke, demo, paper"):
        make_config("fast")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"w_qrn": 0.1}, r"unknown field 'w_qrn'; fields: clip_model, .*w_qnr"),
        ({"stage1_lr": "1e-3"}, r"stage1_lr: .*valid number, got '1e-3'"),
        ({"stage2_iterations": 1.5}, r"stage2_iterations: .*integer, got 1.5"),
        ({"warm_start": "no"}, r"warm_start: .*boolean, got 'no'"),
        ({"w_language": -1.0}, r"w_language: .*greater than or equal to 0, got -1"),
        ({"w_spec": float("nan")}, r"w_spec: .*finite"),
        ({"stage1_batch": 1}, r"stage1_batch: .*greater than or equal to 2, got 1"),
        ({"image_residual": 1.1}, r"image_residual: .*less than or equal to 1, got 1.1"),
        ({"clip_norm": 0.0}, r"clip_norm: .*greater than 0, got 0"),
        ({"stem": "fft"}, r"stem: .*'conv', 'pca', 'rgb' or 'gbnir', got 'fft'"),
        ({"schedule": "step"}, r"schedule: .*'constant' or 'cosine', got 'step'"),
        ({"network": "bdsd", "warm_start": False}, r"network: .*'bdsd'; choose from pnn, lambda_pnn"),
        (
            {"pseudo": "shop", "warm_start": False},
            r"pseudo: .*'shop'; choose from pnn, .*ship, .*exp.*NAME.saf",
        ),
        ({"compared": ["pnn", "pnnn"]}, r"compared: .*'pnnn'; choose from pnn, lambda_pnn"),
        ({"compared": "pnn"}, r"compared: .*valid list, got 'pnn'"),
        ({"prompts": "walt"}, r"prompts: .*unknown prompt set 'walt'; known: wald, khan"),
        ({"prompts": {"lrms": "a"}}, r"prompts: .*missing: \['hrms', 'pan'\]"),
        ({"precision": "float16"}, r"precision: .*'float32' or 'bfloat16', got 'float16'"),
        ({"network": "lambda_pnn"}, r"pseudo 'pnn' must be network 'lambda_pnn'"),
    ],
)
def test_a_bad_field_is_refused_by_name_with_the_value_seen(overrides, message):
    with pytest.raises(ValueError, match=message):
        make_config("demo", **overrides)


def test_all_bad_fields_are_named_at_once():
    with pytest.raises(ValueError, match=r"w_spec: .*; w_spat: "):
        make_config("demo", w_spec=-1.0, w_spat=-1.0)


def test_the_users_own_prompts_are_accepted():
    texts = {"lrms": "a", "pan": "b", "hrms": "c"}
    assert make_config("demo", prompts=texts).prompts == texts


def test_the_key_of_a_stage_changes_with_its_own_numbers_and_no_others():
    config = make_config("demo")
    other = make_config("demo", stage2_lr=0.5, w_language=0.5, n_seeds=9, checkpoint_every=7, w_qnr=0.7)
    assert config.key("stage1") == other.key("stage1")
    assert config.key("unsupervised") != other.key("unsupervised")
    assert config.key("supervised") == make_config("demo", w_qnr=0.7, tau_inter=0.2).key("supervised")
    assert config.key("stage1") != make_config("demo", tau_inter=0.2).key("stage1")
    rounded = make_config("demo", precision="bfloat16")
    assert config.key("stage1") == rounded.key("stage1")
    assert all(config.key(stage) != rounded.key(stage) for stage in ("supervised", "unsupervised"))


def trained(path: Path, seed: int = 0) -> str:
    network = build_network("pnn", 4, 4, seed)
    TrainedNetwork(network, "pnn", get_sensor("QB"), 2047.0, {"seed": str(seed)}).save(path)
    return str(path)


def test_a_file_of_a_trained_network_can_be_the_pseudo_supervisor(tmp_path, monkeypatch):
    file = trained(tmp_path / "n.safetensors")
    config = make_config("demo", pseudo=file)
    assert (config.warm_start, config.pseudo, config.trained_pseudo().name) == (True, file, "pnn")
    assert make_config("demo").trained_pseudo() is None
    monkeypatch.chdir(tmp_path)
    assert make_config("demo", pseudo="n.safetensors").pseudo == file
    assert make_config("demo", pseudo=file, network="pannet", warm_start=False).network == "pannet"
    with pytest.raises(ValueError, match=r"pseudo '/.*n.safetensors' \(a pnn\) must be network 'pannet'"):
        make_config("demo", pseudo=file, network="pannet")


def test_a_file_that_holds_no_such_network_is_refused_with_its_path(tmp_path):
    gone, foreign = tmp_path / "gone.safetensors", tmp_path / "foreign.safetensors"
    save_file(build_network("pnn", 4, 4).state_dict(), foreign)
    with pytest.raises(ValueError, match=r"pseudo: .*gone.safetensors cannot be read.*No such file"):
        make_config("demo", pseudo=str(gone))
    with pytest.raises(ValueError, match=r"pseudo: .*foreign.safetensors holds no network"):
        make_config("demo", pseudo=str(foreign))


def test_the_key_holds_the_weights_of_a_file_and_not_its_path(tmp_path):
    one, other, changed = (
        make_config("demo", pseudo=trained(tmp_path / f"{name}.safetensors", seed)).key("unsupervised")
        for name, seed in (("one", 0), ("other", 0), ("changed", 1))
    )
    assert one == other != changed


def test_the_key_changes_with_whatever_else_is_named():
    config = make_config("demo")
    keys = {
        config.key("stage1"),
        config.key("stage1", 0),
        config.key("stage1", 1),
        config.key("stage1", 0, 1),
    }
    assert len(keys) == 4 and all(len(key) == 64 for key in keys)


def test_the_key_of_an_unknown_stage_is_refused():
    with pytest.raises(ValueError, match="unknown 'stage3'; choose from stage1, supervised, unsupervised"):
        make_config("demo").key("stage3")


def test_every_field_of_a_stage_exists():
    for fields in STAGES.values():
        assert set(fields) <= RunConfig.model_fields.keys()


def test_a_file_or_folder_of_a_clip_has_its_whole_path_and_a_tag_stays_a_tag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pt").write_bytes(b"")
    assert make_config("paper", clip_weights="mine.pt").clip_weights == str(tmp_path / "mine.pt")
    folder = make_config("paper", clip_model="local-dir:clip", clip_weights=None)
    assert folder.clip_model == f"local-dir:{tmp_path / 'clip'}"
    assert make_config("paper").clip_weights == "openai" and make_config("demo").clip_weights is None
