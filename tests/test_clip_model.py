"""Loading a CLIP: the right weights or a refusal; and what its towers compute."""

import json
import logging
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tiny import SENSOR, TinyPatches, same, state
from torch import nn

from clippan_lib.clip import model as clip_model
from clippan_lib.clip import source
from clippan_lib.clip.model import ClipTowers, load_clip, prepare_image
from clippan_lib.clip.prompts import PROMPTS
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.errors import ClipWeightsError
from clippan_lib.fusion.networks.pnn import PNN
from clippan_lib.training.batches import PatchStore
from clippan_lib.training.config import make_config
from clippan_lib.training.stage1 import fit_supervisor
from clippan_lib.training.stage2 import train_fusion

VIT = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 9, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny transformer CLIP in open_clip's registry."""
    path = tmp_path_factory.mktemp("clip") / "tiny-vit.json"
    path.write_text(json.dumps(VIT))
    open_clip.add_model_config(path)
    return path.stem


@pytest.fixture(scope="module")
def towers() -> ClipTowers:
    return load_clip("embedded", "random:0")


@pytest.fixture
def weights_file(vit: str, tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file(load_clip(vit, "random:3").model.state_dict(), path)
    return path


# Weights: the right ones, or a refusal.


def test_the_embedded_clip_loads_without_being_told_anything():
    towers = load_clip()
    assert (towers.name, towers.weights, towers.dim, towers.image_size) == ("embedded", None, 64, (64, 64))
    assert towers.fingerprint == load_clip().fingerprint
    assert towers.fingerprint != load_clip("embedded", "random:0").fingerprint


def test_random_weights_are_given_by_their_seed_alone(vit: str):
    assert load_clip(vit, "random:1").fingerprint == load_clip(vit, "random:1").fingerprint
    assert load_clip(vit, "random:1").fingerprint != load_clip(vit, "random:2").fingerprint


def test_loading_leaves_the_random_state_as_it_was(vit: str):
    state = torch.get_rng_state()
    load_clip(vit, "random:1")
    assert torch.equal(torch.get_rng_state(), state)


def test_the_control_that_was_asked_for_logs_no_warning(vit: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        load_clip(vit, "random:1")
    assert not caplog.records


@pytest.mark.parametrize("weights", ["random:", "random:x", "random:-1", "random:1.5"])
def test_a_seed_that_is_no_whole_number_is_refused(weights: str):
    with pytest.raises(ValueError, match="whole number"):
        load_clip("embedded", weights)


def test_no_weights_are_never_random_weights():
    with pytest.raises(ClipWeightsError, match=r"none were named(.|\n)*laion2b_s34b_b79k(.|\n)*embedded"):
        load_clip("ViT-B-32")


def test_an_unknown_tag_lists_the_known_ones_and_the_way_out():
    with pytest.raises(ClipWeightsError, match=r"'opnai'(.|\n)*openai(.|\n)*pass the file's path"):
        load_clip("ViT-B-32", "opnai")


def test_an_architecture_without_published_weights_says_so(vit: str):
    with pytest.raises(ClipWeightsError, match="Published tags of this architecture: none"):
        load_clip(vit)


def test_an_unknown_architecture_names_its_neighbours():
    with pytest.raises(ValueError, match=r"'ViT-B-23'; near matches: ViT-B-32"):
        load_clip("ViT-B-23", "openai")


def test_a_failed_download_says_what_was_tried_and_what_to_do(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", unreachable)
    with pytest.raises(
        ClipWeightsError, match=r"'openai'.*no route to host(.|\n)*download the weights elsewhere"
    ):
        load_clip("ViT-B-32", "openai")


def test_an_unreachable_hub_is_reported_alike(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip.factory, "download_pretrained_from_hf", unreachable)
    with pytest.raises(ClipWeightsError, match=r"hf-hub:owner/name.*no route to host(.|\n)*embedded"):
        load_clip("hf-hub:owner/name")


def test_weights_beside_a_hub_id_are_refused_since_open_clip_would_ignore_them():
    with pytest.raises(ValueError, match="brings its own weights"):
        load_clip("hf-hub:owner/name", "openai")


def test_a_folder_without_weights_is_refused(tmp_path: Path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": VIT}))
    with pytest.raises(ClipWeightsError, match="local-dir:"):
        load_clip(f"local-dir:{tmp_path}")


def test_a_folder_gives_weights_and_its_own_normalisation(weights_file: Path, vit: str):
    config = {"model_cfg": VIT, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.1, 0.3]}}
    (weights_file.parent / "open_clip_config.json").write_text(json.dumps(config))
    towers = load_clip(f"local-dir:{weights_file.parent}")
    assert torch.equal(towers.mean, torch.tensor([0.5, 0.4, 0.3]))
    assert torch.equal(towers.std, torch.tensor([0.2, 0.1, 0.3]))
    assert torch.equal(towers.encode_text(["a"]), load_clip(vit, "random:3").encode_text(["a"]))
    assert towers.fingerprint != load_clip(vit, "random:3").fingerprint


def test_a_local_file_gives_the_weights_it_holds(vit: str, weights_file: Path):
    towers = load_clip(vit, str(weights_file))
    assert towers.weights == str(weights_file)
    assert towers.fingerprint == load_clip(vit, "random:3").fingerprint


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_a_file_that_does_not_fit_is_refused(vit: str, weights_file: Path, change: str):
    state = load_clip(vit, "random:3").model.state_dict()
    if change == "missing":
        del state["ln_final.weight"]
    else:
        state["ln_extra.weight"] = torch.zeros(2)
    save_file(state, weights_file)
    with pytest.raises(ClipWeightsError, match=r"ln_(final|extra)\.weight"):
        load_clip(vit, str(weights_file))


def test_a_file_that_is_no_weights_file_is_refused(vit: str, tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    path.write_text("not weights")
    with pytest.raises(ClipWeightsError, match=r"weights\.safetensors"):
        load_clip(vit, str(path))


def test_the_pt_file_of_a_state_dict_gives_equal_features(tmp_path: Path):
    """What RemoteCLIP publishes: names and shapes of OpenAI's CLIP, here of its kind of residual network."""
    given, path = load_clip("embedded", "random:3"), tmp_path / "RemoteCLIP-RN50.pt"
    torch.save(given.model.state_dict(), path)
    loaded, image = load_clip("embedded", str(path)), torch.rand(2, 3, 20, 28)
    assert torch.equal(loaded.encode_image(image), given.encode_image(image))
    assert torch.equal(loaded.encode_text(["a", "b"]), given.encode_text(["a", "b"]))


def test_a_file_of_another_architecture_names_what_does_not_fit(tmp_path: Path):
    path = tmp_path / "RemoteCLIP-RN50.pt"
    torch.save(load_clip("embedded", "random:3").model.state_dict(), path)
    config = open_clip.get_model_config(source._ASSET) | {"vision_cfg": VIT["vision_cfg"]}
    other = tmp_path / "same-text-other-images.json"
    other.write_text(json.dumps(config))
    open_clip.add_model_config(other)
    with pytest.raises(ClipWeightsError, match=r"RN50\.pt(.|\n)*Missing key(.|\n)*visual\.proj") as refusal:
        load_clip(other.stem, str(path))
    assert len(str(refusal.value)) < 2000


class Unsafe:
    """Pickled, it writes a file as soon as it is read."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


def test_a_file_that_holds_more_than_tensors_is_refused_and_runs_nothing(vit: str, tmp_path: Path):
    path, witness = tmp_path / "weights.pt", tmp_path / "witness"
    torch.save({"ln_final.weight": Unsafe(witness)}, path)
    pickle.loads(pickle.dumps(Unsafe(tmp_path / "pickles_do_run")))
    with pytest.raises(ClipWeightsError, match="only tensors are read"):
        load_clip(vit, str(path))
    assert (tmp_path / "pickles_do_run").exists() and not witness.exists()


@pytest.mark.parametrize("content", ["text", "list", "nothing"])
def test_a_pt_file_without_a_state_dict_is_refused(vit: str, tmp_path: Path, content: str):
    path = tmp_path / "weights.pt"
    if content == "text":
        path.write_text("not weights")
    else:
        torch.save([torch.zeros(2)] if content == "list" else {}, path)
    with pytest.raises(ClipWeightsError, match=r"weights\.pt(.|\n)*only tensors are read"):
        load_clip(vit, str(path))


def test_a_tokenizer_that_cannot_be_had_is_told_from_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = VIT | {"text_cfg": VIT["text_cfg"] | {"hf_tokenizer_name": "owner/name"}}
    path = tmp_path / "tiny-siglip.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ClipWeightsError, match=r"no tokenizer(.|\n)*pip install transformers(.|\n)*local-dir:"
    ):
        load_clip(path.stem, "random:0")


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("ViT-B-16-SigLIP", 0.5, 0.5),
        ("MobileCLIP-S1", 0.0, 1.0),
        ("ViT-L-14", open_clip.OPENAI_DATASET_MEAN[0], open_clip.OPENAI_DATASET_STD[0]),
    ],
)
def test_an_architecture_has_the_normalisation_of_its_first_published_weights(
    name: str, mean: float, std: float
):
    normalisation = source._normalisation(name)
    assert (normalisation["mean"][0], normalisation["std"][0]) == (mean, std)


def test_a_file_and_random_weights_get_the_normalisation_of_the_architecture(
    vit: str, weights_file: Path, monkeypatch: pytest.MonkeyPatch
):
    usual = load_clip(vit, "random:3")
    assert torch.equal(usual.mean, torch.tensor(open_clip.OPENAI_DATASET_MEAN))
    tag = {"file": str(weights_file), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.1, 0.3)}
    other = {"file": str(weights_file), "mean": (0.1, 0.1, 0.1), "std": (0.1, 0.1, 0.1)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, vit, {"first": tag, "other": other})
    for weights in (str(weights_file), "random:3", "first"):
        towers = load_clip(vit, weights)
        assert torch.equal(towers.mean, torch.tensor(tag["mean"]))
        assert torch.equal(towers.std, torch.tensor(tag["std"]))
        assert towers.fingerprint != usual.fingerprint
    assert torch.equal(load_clip(vit, "other").mean, torch.tensor(other["mean"]))


@pytest.mark.parametrize(("name", "file"), [("absent", "absent.json"), ("tiny-vit", "tiny-vit.safetensors")])
def test_a_missing_file_of_the_embedded_clip_is_named(
    vit: str, name: str, file: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(source, "_ASSET", name)
    with pytest.raises(ClipWeightsError, match=f"{file} is missing"):
        load_clip()


def test_a_tag_brings_the_activation_it_was_trained_with(
    vit: str, weights_file: Path, monkeypatch: pytest.MonkeyPatch
):
    tags = {"ours": {"file": str(weights_file), "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, vit, tags)
    tagged, plain = load_clip(vit, "ours"), load_clip(vit, str(weights_file))
    assert sum(type(module).__name__ == "QuickGELU" for module in tagged.model.modules()) == 2
    assert tagged.fingerprint != plain.fingerprint


# Towers.


@pytest.mark.parametrize("size", [(5, 7), (64, 64), (150, 70)])
def test_a_grey_image_of_any_size_becomes_the_normalised_grey(size: tuple[int, int]):
    pixels = prepare_image(torch.full((1, 3, *size), 0.5), (64, 64), [0.5, 0.25, 0.0], [1.0, 0.5, 0.1])
    expected = torch.tensor([0.0, 0.5, 5.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    torch.testing.assert_close(pixels, expected)


def test_detail_finer_than_the_tower_sees_is_averaged_and_not_aliased():
    stripes = (torch.arange(128) % 4 == 0).float().expand(1, 3, 128, 128)
    pixels = prepare_image(stripes, (32, 32), [0.0] * 3, [1.0] * 3)
    torch.testing.assert_close(pixels[..., 4:-4], torch.full((1, 3, 32, 24), 0.25), atol=0.01, rtol=0)


def test_an_image_of_the_towers_size_is_not_resampled(towers: ClipTowers):
    image = torch.rand(2, 3, 64, 64)
    own = (image - torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)) / torch.tensor(
        open_clip.OPENAI_DATASET_STD
    ).view(3, 1, 1)
    expected = nn.functional.normalize(towers.model.encode_image(own), dim=1)
    torch.testing.assert_close(towers.encode_image(image), expected)


def test_the_derivative_of_the_preparation_is_right(device: str):
    image = torch.rand(2, 3, 5, 7, dtype=torch.float64).to(device).requires_grad_()
    prepared = lambda x: prepare_image(x, (4, 3), [0.5] * 3, [0.2] * 3)  # noqa: E731
    assert torch.autograd.gradcheck(prepared, image, nondet_tol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_have_unit_length_and_the_gradient_reaches_the_image_alone(dtype: torch.dtype, device: str):
    towers = load_clip("embedded", "random:0").to(device)
    image = torch.rand(2, 3, 20, 28, dtype=dtype).to(device).requires_grad_()
    features = towers.encode_image(image)
    torch.testing.assert_close(features.norm(dim=1).cpu(), torch.ones(2))
    features[:, 0].sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in towers.parameters())


def test_the_towers_stay_in_evaluation_mode_and_judge_each_image_alone(towers: ClipTowers):
    nn.Sequential(towers).train()
    assert not any(module.training for module in towers.modules())
    images = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(towers.encode_image(images)[1:2], towers.encode_image(images[1:2]))


def test_texts_give_one_unit_vector_each_and_no_graph(towers: ClipTowers):
    features = towers.encode_text(["a", "b", "a"])
    assert features.shape == (3, towers.dim)
    assert not features.requires_grad
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
    assert torch.equal(features[0], features[2])
    assert not torch.allclose(features[0], features[1])


def test_every_prompt_fits_the_embedded_clip(towers: ClipTowers):
    texts = [text for prompts in PROMPTS.values() for text in prompts.texts]
    assert towers.encode_text(texts).shape == (21, towers.dim)


def test_a_text_is_refused_from_the_first_token_too_many(vit: str):
    towers = load_clip(vit, "random:0")
    assert towers.encode_text(["a a a a a a a"]).shape == (1, 8)
    with pytest.raises(ValueError, match="has 10 tokens and tiny-vit takes 9"):
        towers.encode_text(["a", "a a a a a a a a"])


def test_the_tokens_of_other_tokenizers_are_counted_too():
    other = SimpleNamespace(tokenizer=lambda text: SimpleNamespace(input_ids=text.split()))
    assert clip_model._count_tokens(other, "one two three") == 3


def test_a_transformer_clip_takes_any_image_size(vit: str):
    assert load_clip(vit, "random:0").encode_image(torch.rand(2, 3, 5, 7)).shape == (2, 8)


# Other CLIPs: another size, dimension, image tower and text tower, through both stages.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "dim"), [("ViT-B-32", 224, 512), ("RN50", 224, 1024), ("MobileCLIP2-S0", 256, 512)]
)
def test_another_clip_goes_through_both_stages(name: str, size: int, dim: int):
    torch.manual_seed(0)
    towers, patches, network = load_clip(name, "random:0"), TinyPatches(count=2), PNN(4, 4, hidden=(6, 4))
    assert (towers.image_size, towers.dim) == ((size, size), dim)
    supervisor, kept = Supervisor(towers, SENSOR), state(towers)
    supervisor.fit_stretch(patches.lrms, patches.pan)
    start = state(supervisor), state(network)
    # not every tower has features of places
    once = {"stage1_iterations": 1, "stage1_batch": 2, "stage2_iterations": 1}
    config = make_config("smoke", warm_start=False, guidance="global", **once)
    adapted = fit_supervisor(supervisor, patches, config, seed=0, device="cpu").frame()
    trained = train_fusion(
        network, PatchStore(patches, "cpu"), config, supervised=True, supervisor=supervisor, seed=0
    ).frame()
    assert adapted.notna().all().all() and trained["language"].notna().all()
    assert not same(start[0], state(supervisor)) and not same(start[1], state(network))
    assert same(kept, state(towers))
