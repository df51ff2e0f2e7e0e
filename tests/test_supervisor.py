"""The supervisor: what learns, what stays, what is computed once, and what a file brings back."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from clippan_lib.clip import supervisor as module
from clippan_lib.clip.model import ClipTowers, load_clip
from clippan_lib.clip.prompts import PROMPTS, shuffled
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.errors import CheckpointError
from clippan_lib.files import read_tensors, write_tensors
from clippan_lib.sensors import Sensor

SENSOR = Sensor("ours", ("b", "g", "r", "n"), 12, 4, (0.3,) * 4, 0.15, (2, 1, 0), (1, 0, 3), measured=False)


@pytest.fixture(scope="module")
def towers() -> ClipTowers:
    return load_clip("embedded", "random:0")


@pytest.fixture(scope="module")
def images() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"lrms": (2, 4, 5, 7), "pan": (2, 1, 20, 28), "hrms": (2, 4, 20, 28)}
    return {name: 0.3 * torch.rand(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def make(towers: ClipTowers, images: dict[str, Tensor]) -> Callable[..., Supervisor]:
    def build(clip: ClipTowers = towers, **options) -> Supervisor:
        torch.manual_seed(0)
        supervisor = Supervisor(clip, SENSOR, **options)
        supervisor.fit_stretch(images["lrms"], images["pan"])
        return supervisor

    return build


def embed(supervisor: Supervisor, images: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "lrms": supervisor.embed_lrms(images["lrms"]),
        "pan": supervisor.embed_pan(images["pan"]),
        "hrms": supervisor.embed_hrms(images["hrms"]),
        "texts": supervisor.embed_texts(),
    }


def disturb(supervisor: Supervisor) -> None:
    """Stands for Stage I: no parameter keeps its first value."""
    with torch.no_grad():
        for parameter in supervisor.trainable_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def moved(supervisor: Supervisor) -> set[str]:
    """Which parts received a gradient that is not zero."""
    named = [(name, p) for name, p in supervisor.named_parameters() if p.grad is not None and p.grad.any()]
    return {".".join(name.split(".")[: 1 if name.startswith("fuse") else 2]) for name, _ in named}


# What learns in Stage I.


@pytest.mark.parametrize("adapters", ["shared", "per_type"])
@pytest.mark.parametrize(
    ("term", "parts"),
    [
        ("lrms against its text", {"stems.lrms", "image_adapters.lrms", "text_adapters.lrms"}),
        ("pan against its text", {"image_adapters.pan", "text_adapters.pan"}),
        ("hrms against its text", {"stems.hrms", "image_adapters.hrms", "text_adapters.hrms"}),
        ("fused image", {"stems.lrms", "image_adapters.lrms", "image_adapters.pan", "fuse_image"}),
        ("fused text", {"text_adapters.lrms", "text_adapters.pan", "fuse_text"}),
    ],
)
def test_each_term_of_stage_1_moves_its_own_parts_and_no_others(
    make: Callable[..., Supervisor], images: dict[str, Tensor], term: str, parts: set[str], adapters: str
):
    supervisor = make(adapters=adapters)
    disturb(supervisor)
    features, (t_lrms, t_pan, t_hrms) = embed(supervisor, images), supervisor.embed_texts().split(1)
    terms = {
        "lrms against its text": (features["lrms"] * t_lrms).sum(),
        "pan against its text": (features["pan"] * t_pan).sum(),
        "hrms against its text": (features["hrms"] * t_hrms).sum(),
        "fused image": (
            supervisor.fuse_image(features["lrms"], features["pan"]) * features["hrms"].detach()
        ).sum(),
        "fused text": (supervisor.fuse_text(t_lrms, t_pan) * t_hrms.detach()).sum(),
    }
    terms[term].backward()
    if adapters == "shared":
        parts = {part.split(".")[0] + ".shared" if "adapters" in part else part for part in parts}
    assert moved(supervisor) == parts


@pytest.mark.parametrize("stem", ["rgb", "gbnir", "pca"])
def test_a_fixed_stem_has_nothing_to_learn(make: Callable[..., Supervisor], stem: str):
    supervisor = make(stem=stem)
    assert not list(supervisor.stems.parameters())


@pytest.mark.parametrize(("adapters", "count"), [("per_type", 6), ("shared", 2)])
def test_there_are_six_adapters_or_one_per_modality(
    make: Callable[..., Supervisor], adapters: str, count: int
):
    supervisor = make(adapters=adapters, stem="rgb")
    d = supervisor.towers.dim
    trained = sum(parameter.numel() for parameter in supervisor.trainable_parameters())
    assert trained == count * 2 * d * (d // 4) + 2 * (2 * d * (d // 2) + (d // 2) * d)


def test_the_towers_are_no_part_of_what_is_trained(make: Callable[..., Supervisor], towers: ClipTowers):
    trained = {id(parameter) for parameter in make().trainable_parameters()}
    frozen = {id(parameter) for parameter in towers.parameters()}
    assert trained
    assert frozen
    assert not trained & frozen


def nudged(supervisor: Supervisor) -> Supervisor:
    """Its adapters off their start, at which they change nothing."""
    for bank in (supervisor.image_adapters, supervisor.text_adapters):
        for adapter in bank.values():
            torch.nn.init.normal_(adapter.bottleneck[-1].weight)
    return supervisor


def test_stage_i_starts_from_clip_itself(
    make: Callable[..., Supervisor], images: dict[str, Tensor], towers: ClipTowers
):
    start, bare = make(), make(image_residual=0.0, text_residual=0.0)
    torch.testing.assert_close(start.embed_hrms(images["hrms"]), bare.embed_hrms(images["hrms"]))
    torch.testing.assert_close(start.embed_texts(), bare.embed_texts())
    torch.testing.assert_close(start.maps("hrms", images["hrms"]), bare.maps("hrms", images["hrms"]))


def test_shared_adapters_give_equal_features_equal_images_and_own_ones_do_not(
    make: Callable[..., Supervisor], images: dict[str, Tensor], towers: ClipTowers
):
    # PAN and LRMS come through stems of their own, so HRMS is given as both
    features = towers.encode_image(images["hrms"][:, :3])
    for adapters, same in (("shared", True), ("per_type", False)):
        bank = nudged(make(adapters=adapters)).image_adapters
        of_lrms, of_hrms = (bank[role if role in bank else "shared"](features) for role in ("lrms", "hrms"))
        assert torch.allclose(of_lrms, of_hrms) == same


@pytest.mark.parametrize("modality", ["image", "text"])
def test_each_residual_ratio_belongs_to_its_own_modality(
    make: Callable[..., Supervisor], images: dict[str, Tensor], towers: ClipTowers, modality: str
):
    supervisor = nudged(make(**{f"{modality}_residual": 0.0}))
    raw_image = towers.encode_image(supervisor.stems["pan"](images["pan"]))
    raw_texts = towers.encode_text(list(PROMPTS["wald"].texts))
    assert torch.allclose(supervisor.embed_pan(images["pan"]), raw_image, atol=1e-6) == (modality == "image")
    assert torch.allclose(supervisor.embed_texts(), raw_texts, atol=1e-6) == (modality == "text")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_feature_has_unit_length(
    make: Callable[..., Supervisor], images: dict[str, Tensor], dtype: torch.dtype, device: str
):
    supervisor = make(load_clip("embedded", "random:0")).to(device)
    features = embed(supervisor, {name: image.to(device, dtype) for name, image in images.items()})
    features["fused"] = supervisor.fuse_image(features["lrms"], features["pan"])
    for feature in features.values():
        torch.testing.assert_close(feature.norm(dim=1).cpu(), torch.ones(len(feature)))


def test_features_in_single_precision_are_near_those_in_double_precision(
    make: Callable[..., Supervisor], images: dict[str, Tensor], device: str
):
    double, single = (make(load_clip("embedded", "random:0")) for _ in range(2))
    wanted = embed(double.double().freeze(), {name: image.double() for name, image in images.items()})
    found = embed(single.to(device).freeze(), {name: image.to(device) for name, image in images.items()})
    for name, features in wanted.items():
        torch.testing.assert_close(found[name].cpu().double(), features, atol=1e-5, rtol=0)


def test_training_mode_leaves_the_towers_in_evaluation_mode(make: Callable[..., Supervisor]):
    supervisor = make().train()
    assert not any(part.training for part in supervisor.towers.modules())


# What stays in Stage II.


def test_frozen_only_the_fused_image_receives_a_gradient(
    make: Callable[..., Supervisor], images: dict[str, Tensor]
):
    supervisor = make().freeze()
    hrms = images["hrms"].clone().requires_grad_()
    for _ in range(2):
        (supervisor.embed_hrms(hrms) @ supervisor.embed_texts().T).sum().backward()
    assert hrms.grad.abs().sum() > 0
    assert supervisor.trainable_parameters() == []
    assert all(parameter.grad is None for parameter in supervisor.parameters())


def test_freezing_changes_no_feature(make: Callable[..., Supervisor], images: dict[str, Tensor]):
    supervisor = make()
    before = embed(supervisor, images)
    after = embed(supervisor.freeze(), images)
    for name in before:
        torch.testing.assert_close(after[name], before[name])


def test_frozen_texts_are_one_constant(make: Callable[..., Supervisor]):
    supervisor = make()
    assert supervisor.embed_texts().requires_grad
    supervisor.freeze()
    assert not supervisor.embed_texts().requires_grad
    assert supervisor.embed_texts() is supervisor.embed_texts()


def test_the_texts_pass_the_towers_once(
    make: Callable[..., Supervisor], images: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
):
    calls, encode = [], ClipTowers.encode_text

    def counted(self: ClipTowers, texts: list[str]) -> Tensor:
        calls.append(texts)
        return encode(self, texts)

    monkeypatch.setattr(ClipTowers, "encode_text", counted)
    supervisor = make()
    for _ in range(3):
        embed(supervisor, images)
    supervisor.zero_shot(embed(supervisor.freeze(), images)["lrms"])
    assert calls == [list(PROMPTS["wald"].texts)]
    supervisor.with_prompts("ii")
    assert calls[1:] == [list(PROMPTS["ii"].texts)]


# Prompts.


def test_other_prompts_change_the_texts_and_no_image(
    make: Callable[..., Supervisor], images: dict[str, Tensor]
):
    supervisor = make(adapters="per_type")
    disturb(supervisor)
    state = torch.get_rng_state()
    other = supervisor.with_prompts("noise")
    assert torch.equal(torch.get_rng_state(), state)
    assert other.prompts == PROMPTS["noise"]
    before, after = embed(supervisor, images), embed(other, images)
    assert all(torch.equal(before[name], after[name]) for name in images)
    assert torch.equal(before["texts"][:2], after["texts"][:2])
    assert not torch.allclose(before["texts"][2], after["texts"][2])


@pytest.mark.parametrize(("seed", "order"), [(0, [1, 2, 0]), (1, [2, 0, 1])])
def test_shuffled_prompts_permute_the_texts_of_a_frozen_supervisor(
    make: Callable[..., Supervisor], seed: int, order: list[int]
):
    supervisor = make().freeze()
    control = supervisor.with_prompts(shuffled(PROMPTS["wald"], seed))
    assert control.frozen
    torch.testing.assert_close(control.embed_texts(), supervisor.embed_texts()[order])


def test_the_nearest_text_gives_the_type(make: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Supervisor, "embed_texts", lambda self: torch.eye(3, 4))
    features = torch.tensor([[0.9, 0.1, 0.2, 0.4], [0.1, 0.3, 0.2, 0.9], [-0.9, -0.3, -0.2, 0.0]])
    assert make().zero_shot(features).tolist() == [0, 1, 2]


# Files and states.


def test_a_state_leaves_out_the_towers_and_is_taken_back(
    make: Callable[..., Supervisor], images: dict[str, Tensor]
):
    trained, fresh = make(), make().freeze()
    disturb(trained)
    state = trained.state_dict()
    assert state
    assert not [name for name in state if "towers" in name]
    fresh.load_state_dict(state)
    for expected, result in zip(embed(trained, images).values(), embed(fresh, images).values(), strict=True):
        torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("stem", ["conv", "pca", "gbnir"])
@pytest.mark.parametrize(("adapters", "freeze"), [("shared", False), ("per_type", True)])
def test_a_file_brings_back_every_feature(
    make: Callable[..., Supervisor],
    images: dict[str, Tensor],
    towers: ClipTowers,
    tmp_path: Path,
    stem: str,
    adapters: str,
    freeze: bool,
):
    options = {"reduction": 8, "image_residual": 0.3, "text_residual": 0.6}
    supervisor = make(prompts="khan", stem=stem, adapters=adapters, **options)
    disturb(supervisor)
    if freeze:
        supervisor.freeze()
    supervisor.save(tmp_path / "new" / "supervisor.safetensors")
    state = torch.get_rng_state()
    loaded = Supervisor.load(tmp_path / "new" / "supervisor.safetensors", towers)
    assert torch.equal(torch.get_rng_state(), state)
    assert (loaded.sensor, loaded.prompts, loaded.frozen) == (SENSOR, PROMPTS["khan"], freeze)
    assert loaded.options == supervisor.options
    before, after = embed(supervisor, images), embed(loaded, images)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_file_finds_its_clip_by_name_and_does_not_store_it(make: Callable[..., Supervisor], tmp_path: Path):
    make().save(tmp_path / "supervisor.safetensors")
    loaded = Supervisor.load(tmp_path / "supervisor.safetensors")
    assert (loaded.towers.name, loaded.towers.weights) == ("embedded", "random:0")
    assert not [name for name in load_file(tmp_path / "supervisor.safetensors") if "towers" in name]


def test_another_clip_is_refused_by_both_names(make: Callable[..., Supervisor], tmp_path: Path):
    make().save(tmp_path / "supervisor.safetensors")
    with pytest.raises(
        CheckpointError, match=r"adapted on the CLIP 'embedded' \(weights 'random:0'.*'random:1'"
    ):
        Supervisor.load(tmp_path / "supervisor.safetensors", load_clip("embedded", "random:1"))


@pytest.mark.parametrize("change", ["missing", "unknown", "misshapen", "another kind"])
def test_missing_and_unknown_tensors_are_named(
    make: Callable[..., Supervisor], towers: ClipTowers, tmp_path: Path, change: str
):
    path = tmp_path / "supervisor.safetensors"
    make().save(path)
    tensors, metadata = read_tensors(path, "")
    bias = tensors["stems.lrms.bias"]
    if change == "missing":
        del tensors["stems.lrms.bias"]
    elif change == "unknown":
        tensors["stems.odd.bias"] = torch.zeros(3)
    else:
        tensors["stems.lrms.bias"] = bias[:1] if change == "misshapen" else bias.double()
    write_tensors(path, tensors, metadata)
    with pytest.raises(CheckpointError, match=rf"(?s){path} does not fit.*stems\.(lrms|odd)\.bias"):
        Supervisor.load(path, towers)


def test_a_tensor_that_is_no_number_is_named(
    make: Callable[..., Supervisor], towers: ClipTowers, tmp_path: Path
):
    path, supervisor = tmp_path / "supervisor.safetensors", make()
    with torch.no_grad():
        supervisor.stems["pan"].stretch.lo.fill_(torch.nan)
    supervisor.save(path)
    with pytest.raises(CheckpointError, match=rf"{path}: stems.pan.* not finite \(nan\); run Stage I again"):
        Supervisor.load(path, towers)


HEADER_FAULTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no JSON": lambda header: "{",
    "a list": lambda header: [1],
    "a number": lambda header: 1,
    "nothing": lambda header: None,
    "deep": lambda header: "[" * 100_000,
    "no version": lambda header: {k: v for k, v in header.items() if k != "version"},
    "no clip": lambda header: {k: v for k, v in header.items() if k != "clip"},
    "clip a list": lambda header: header | {"clip": ["embedded"]},
    "fingerprint a number": lambda header: header | {"clip": header["clip"] | {"fingerprint": 1}},
    "one band fewer": lambda header: header | {"sensor": header["sensor"] | {"bands": ["blue"]}},
    "a gain in words": lambda header: header | {"sensor": header["sensor"] | {"gnyq_pan": "high"}},
    "no sensor": lambda header: header | {"sensor": None},
    "prompts a word": lambda header: header | {"prompts": "wald"},
    "unknown option": lambda header: header | {"options": header["options"] | {"depth": 3}},
    "unknown stem": lambda header: header | {"options": header["options"] | {"stem": "oak"}},
    "no reduction": lambda header: header | {"options": header["options"] | {"reduction": 0}},
    "frozen in words": lambda header: header | {"frozen": "yes"},
}


@pytest.mark.parametrize("fault", HEADER_FAULTS)
def test_a_header_with_other_keys_or_types_is_refused_by_name(
    make: Callable[..., Supervisor], towers: ClipTowers, tmp_path: Path, fault: str
):
    path = tmp_path / "supervisor.safetensors"
    make().save(path)
    tensors, metadata = read_tensors(path, "")
    changed = HEADER_FAULTS[fault](json.loads(metadata["clippan_supervisor"]))
    text = changed if isinstance(changed, str) else json.dumps(changed)
    write_tensors(path, tensors, {"clippan_supervisor": text})
    with pytest.raises(CheckpointError, match=rf"(?s){path} .*run Stage I again"):
        Supervisor.load(path, towers)


def test_a_byte_flipped_anywhere_is_refused_by_name(
    make: Callable[..., Supervisor], towers: ClipTowers, tmp_path: Path
):
    path, generator = tmp_path / "supervisor.safetensors", random.Random(0)
    make().save(path)
    content = path.read_bytes()
    for turn in range(40):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content) if turn % 2 else 3000)] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged if turn % 4 else content[: generator.randrange(len(content))])
        with pytest.raises(CheckpointError, match=str(path)):
            Supervisor.load(path, towers)


def test_a_file_of_before_there_were_digests_still_loads(
    make: Callable[..., Supervisor], towers: ClipTowers, tmp_path: Path
):
    path = tmp_path / "supervisor.safetensors"
    make().save(path)
    save_file(load_file(path), path, read_tensors(path, "")[1])
    assert Supervisor.load(path, towers).prompts == PROMPTS["wald"]


def test_a_file_of_another_version_is_refused(
    make: Callable[..., Supervisor], towers: ClipTowers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(module, "_VERSION", 99)
        make().save(tmp_path / "supervisor.safetensors")
    with pytest.raises(CheckpointError, match="has version 99, this package reads 1"):
        Supervisor.load(tmp_path / "supervisor.safetensors", towers)


def test_files_that_hold_no_supervisor_are_refused(towers: ClipTowers, tmp_path: Path):
    (tmp_path / "text").write_text(json.dumps({}))
    with pytest.raises(CheckpointError, match="text cannot be read as safetensors.*run Stage I again"):
        Supervisor.load(tmp_path / "text", towers)
    save_file({"a": torch.zeros(1)}, tmp_path / "network", {"network": "pnn"})
    with pytest.raises(CheckpointError, match=r"holds no supervisor.*\['network'\].*folder stage1/"):
        Supervisor.load(tmp_path / "network", towers)


def test_an_interrupted_save_leaves_the_old_file_whole(
    make: Callable[..., Supervisor], towers: ClipTowers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "supervisor.safetensors"
    make().save(path)

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(prompts="ii").save(path)
    assert Supervisor.load(path, towers).prompts == PROMPTS["wald"]


# Refusals.


def test_unknown_adapters_list_the_known_ones(make: Callable[..., Supervisor]):
    with pytest.raises(ValueError, match="'own'; known: shared, per_type, lora, prompts"):
        make(adapters="own")


def test_unknown_prompts_and_stems_are_refused(make: Callable[..., Supervisor]):
    with pytest.raises(ValueError, match="unknown prompt set 'best'"):
        make(prompts="best")
    with pytest.raises(ValueError, match="unknown stem 'best'"):
        make(stem="best")


def test_an_unfitted_supervisor_says_what_is_missing(towers: ClipTowers, images: dict[str, Tensor]):
    with pytest.raises(ValueError, match="call fit_stretch"):
        Supervisor(towers, SENSOR).embed_hrms(images["hrms"])


def test_another_sensors_bands_are_refused(make: Callable[..., Supervisor]):
    with pytest.raises(ValueError, match="8 bands, this stem takes 4"):
        make().embed_hrms(torch.rand(2, 8, 20, 28))
