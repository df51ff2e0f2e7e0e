"""The settings of a run."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from safetensors.torch import save_file

from clippan_lib.fusion import NETWORKS, build_network
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import get_sensor
from clippan_lib.training.config import PRESETS, STAGES, UNDECIDING, RunConfig, make_config


def test_the_paper_preset_holds_the_papers_numbers():
    config = make_config("paper")
    for stage in ("stage1", "stage2"):
        assert [getattr(config, f"{stage}_{name}") for name in ("lr", "batch", "iterations")] == [
            3e-3,
            32,
            1000,
        ]
    weights = {name: value for name, value in config.model_dump().items() if name.startswith("w_")}
    ours = {name: weights.pop(name) for name in ("w_pointing", "w_order")}
    assert len(weights) == 9 and set(weights.values()) == {1.0} and set(ours.values()) == {0.0}
    assert config.guidance == "global"
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
    assert (config.stage1_iterations, config.stage1_batch, config.schedule) == (40, 8, "cosine")
    assert config.guidance == "dense"
    assert (config.pseudo_iterations, config.stage2_iterations, config.stage2_batch) == (60, 30, 8)
    assert (config.warm_start, config.stage2_lr, config.clip_norm) == (True, 1e-3, 1)
    weights = (config.w_spat, config.w_pseudo, config.w_qnr, config.w_language)
    assert weights == (1.0, 0.1, 0.0, 0.001)
    assert config.consistent_with == "both"
    assert (config.gains, config.truth, config.consistency) == ("measured", "sharp", 2)
    assert (config.spec_degradation, config.spat_pan) == ("mtf", "truth")


def test_the_smoke_preset_is_the_demo_shortened():
    smoke, demo = make_config("smoke").model_dump(), make_config("demo").model_dump()
    changed = {name for name in demo if smoke[name] != demo[name]}
    assert set(smoke["compared"]) < set(demo["compared"])
    changed.remove("compared")
    assert {name for name in changed if demo[name] is None} == {"most_patches", "most_scenes"}
    changed -= {"most_patches", "most_scenes"}
    assert all(
        name.endswith(("iterations", "batch", "n_seeds", "gate_scenes", "checkpoint_every"))
        for name in changed
    )
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
        (
            {"gate_scenes": 1},
            r"gate_scenes: .*one scene gives no interval: take 2 or more, or 0 for no gates",
        ),
        ({"stage2_iterations": 1.5}, r"stage2_iterations: .*integer, got 1.5"),
        ({"warm_start": "no"}, r"warm_start: .*boolean, got 'no'"),
        ({"w_language": -1.0}, r"w_language: .*greater than or equal to 0, got -1"),
        ({"w_spec": float("nan")}, r"w_spec: .*finite"),
        ({"stage1_batch": 1}, r"stage1_batch: .*greater than or equal to 2, got 1"),
        ({"image_residual": 1.1}, r"image_residual: .*less than or equal to 1, got 1.1"),
        ({"clip_norm": 0.0}, r"clip_norm: .*greater than 0, got 0"),
        ({"stem": "fft"}, r"stem: .*'conv', 'pca', 'rgb' or 'gbnir', got 'fft'"),
        ({"scale": "lower"}, r"scale: .*'full' or 'reduced', got 'lower'"),
        ({"patches_from": "test"}, r"patches_from: .*'train' or 'judged', got 'test'"),
        ({"truth": "soft"}, r"truth: .*'delivered' or 'sharp', got 'soft'"),
        ({"schedule": "step"}, r"schedule: .*'constant' or 'cosine', got 'step'"),
        ({"network": "bdsd", "warm_start": False}, r"network: .*'bdsd'; choose from pnn, lambda_pnn"),
        ({"network": "bdsd"}, r"^network: unknown 'bdsd'; choose from pnn, lambda_pnn, [^;:]*$"),
        (
            {"pseudo": "shop", "warm_start": False},
            r"pseudo: .*'shop'; choose from pnn, .*ship, .*exp.*NAME.saf",
        ),
        ({"compared": ["pnn", "pnnn"]}, r"compared: .*'pnnn'; choose from pnn, lambda_pnn"),
        ({"compared": "pnn"}, r"compared: .*valid list, got 'pnn'"),
        ({"prompts": "walt"}, r"prompts: .*unknown prompt set 'walt'; known: wald, khan"),
        ({"prompts": {"lrms": "a"}}, r"prompts: .*missing: \['hrms', 'pan'\]"),
        ({"precision": "float16"}, r"precision: .*'float32' or 'bfloat16', got 'float16'"),
        ({"network": "lambda_pnn", "pseudo": "pnn"}, r"pseudo 'pnn' must be network 'lambda_pnn'"),
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


# Another value of every field, valid beside the paper preset
OTHER = {
    "clip_model": "ViT-B-16",
    "clip_weights": "laion2b",
    "prompts": "khan",
    "stem": "pca",
    "adapters": "shared",
    "reduction": 2,
    "image_residual": 0.3,
    "text_residual": 0.3,
    "gains": "measured",
    "scale": "reduced",
    "patches_from": "judged",
    "truth": "sharp",
    "patch": 24,
    "most_patches": 24,
    "most_scenes": 2,
    "stride_full": 8,
    "stride_reduced": 8,
    "network": "pannet",
    "consistency": 2,
    "pseudo": "gsa",
    "compared": ["pnn"],
    "plugin": "mine.py",
    "hrms_source": "bdsd",
    "schedule": "cosine",
    "clip_norm": 1.0,
    "precision": "bfloat16",
    "spec_degradation": "mtf",
    "spat_pan": "truth",
    "consistent_with": "both",
    "guidance": "dense",
    "w_pointing": 1.0,
    "w_order": 0.3,
}
# The stages that a field decides, stated here by hand once more
DECIDED = {
    (
        "stage1",
    ): "clip_model clip_weights prompts stem adapters reduction image_residual text_residual hrms_source "
    "tau_inter tau_intra w_inter w_intra w_fusion w_pointing w_order drawn drawn_batch stage1_iterations stage1_batch "
    "stage1_lr",
    ("stage1", "supervised", "unsupervised"): "guidance",
    ("pseudo",): "pseudo_iterations pseudo_batch pseudo_lr",
    ("supervised",): "w_gt",
    ("unsupervised",): "consistent_with spec_degradation spat_pan w_spec w_spat w_qnr w_pseudo",
    ("stage1", "unsupervised"): "stride_full",
    ("pseudo", "supervised"): "stride_reduced",
    ("supervised", "unsupervised"): "network stage2_iterations stage2_batch stage2_lr w_language warm_start",
    ("pseudo", "supervised", "unsupervised"): "pseudo precision consistency",
    (
        "stage1",
        "pseudo",
        "supervised",
        "unsupervised",
    ): "gains scale patches_from truth patch most_patches schedule clip_norm",
    (): "plugin compared gate_scenes most_scenes n_seeds checkpoint_every",
}
STATED = {field: stages for stages, fields in DECIDED.items() for field in fields.split()}


@pytest.mark.parametrize("field", RunConfig.model_fields)
def test_a_field_changes_the_keys_of_exactly_the_stages_that_it_decides(field, monkeypatch):
    monkeypatch.setattr("clippan_lib.training.config.load_plugin", lambda file: None)
    before = make_config("paper", pseudo="pnn")
    value = getattr(before, field)
    other = OTHER.get(field, not value if isinstance(value, bool) else value * 2 if value else None)
    assert other is not None and other != value
    after = make_config("paper", **{"pseudo": "pnn", field: other})
    changed = tuple(stage for stage in STAGES if before.key(stage) != after.key(stage))
    assert changed == STATED[field]


def test_the_stages_are_read_from_the_fields_alone():
    assert {stage for stages in DECIDED for stage in stages} == set(STAGES)
    for stage, fields in STAGES.items():
        assert set(fields) == {field for field, stages in STATED.items() if stage in stages}
    assert set(UNDECIDING) == set(DECIDED[()].split())


def test_a_network_is_its_own_pseudo_supervisor_where_stage_two_starts_warm():
    warm, cold = make_config("demo"), make_config("demo", warm_start=False)
    assert warm.with_network("pannet") == make_config("demo", network="pannet")
    assert (warm.with_network("pannet").pseudo, cold.with_network("pannet").pseudo) == ("pannet", "pnn")
    with pytest.raises(ValueError, match="network: .*'pannett'; choose from"):
        warm.with_network("pannett")


def test_the_key_holds_the_state_of_a_clips_files_and_not_their_path(tmp_path):
    file, folder = tmp_path / "mine.pt", tmp_path / "clip"
    folder.mkdir()
    keys = []
    for content in (b"one", b"other"):
        file.write_bytes(content)
        (folder / "weights.bin").write_bytes(content)
        by_file = make_config("paper", clip_weights=str(file)).key("stage1")
        by_folder = make_config("paper", clip_model=f"local-dir:{folder}", clip_weights=None).key("stage1")
        keys += [by_file, by_folder]
    assert len(set(keys)) == 4
    moved = file.rename(tmp_path / "moved.pt")
    assert make_config("paper", clip_weights=str(moved)).key("stage1") == keys[2]


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
    with pytest.raises(
        ValueError, match="unknown 'stage3'; choose from stage1, pseudo, supervised, unsupervised"
    ):
        make_config("demo").key("stage3")


def test_a_file_or_folder_of_a_clip_has_its_whole_path_and_a_tag_stays_a_tag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pt").write_bytes(b"")
    assert make_config("paper", clip_weights="mine.pt").clip_weights == str(tmp_path / "mine.pt")
    folder = make_config("paper", clip_model="local-dir:clip", clip_weights=None)
    assert folder.clip_model == f"local-dir:{tmp_path / 'clip'}"
    assert make_config("paper").clip_weights == "openai" and make_config("demo").clip_weights is None
