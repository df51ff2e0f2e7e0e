"""OpenAI's own files: the tensors of a program are read, and nothing that it holds is run."""

import os
import pickle
import warnings
import zipfile

import pytest
import torch
from tiny import same
from torch import nn

from clippan_lib.clip.archive import EXTRA, loadable, program_of
from clippan_lib.clip.model import load_clip
from clippan_lib.errors import ClipWeightsError


class Block(nn.Module):
    """Parameters, buffers, a list of layers, numbers and an empty tensor, as models have them."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 2), nn.LayerNorm(2)])
        self.table = nn.Parameter(torch.randn(5, 4).t())  # not contiguous
        self.register_buffer("input_resolution", torch.tensor(224))
        self.register_buffer("none", torch.empty(0))
        self.sizes = [1, 2]

    def forward(self, x):
        return self.layers[1](self.layers[0](x)) + self.table.sum()


def saved(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning))
        torch.jit.script(model).save(path)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_tensors_of_a_program_are_those_of_its_state(tmp_path, dtype):
    model = Block().to(dtype)
    found = program_of(saved(model, tmp_path / "program.pt"))
    assert same(found, model.state_dict()) and found["table"].dtype == dtype


def test_other_files_are_no_programs(tmp_path):
    torch.save(Block().state_dict(), tmp_path / "state.pt")
    (tmp_path / "text.pt").write_text("no archive")
    assert program_of(tmp_path / "state.pt") is None and program_of(tmp_path / "text.pt") is None


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm_was_done",)


def test_a_program_that_would_run_something_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = saved(Block(), tmp_path / "program.pt")
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, pickle.dumps({"harm": Harm()}, 2) if name.endswith("/data.pkl") else data)
    with pytest.raises(pickle.UnpicklingError, match="posix.mkdir|nt.mkdir|os.mkdir"):
        program_of(path)
    assert not (tmp_path / "harm_was_done").exists()
    with pytest.raises(ClipWeightsError, match="which is no part of a model"):
        load_clip("RN50", str(path))


@pytest.fixture(scope="module")
def clip():
    return load_clip("RN50", "random:3").model.half()


def openai_like(clip):
    """A module that keeps a CLIP's state as OpenAI's programs do, with their three numbers."""

    class Holder(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    whole = Holder()
    for name, tensor in [*clip.state_dict().items(), *((name, torch.tensor(7)) for name in EXTRA)]:
        *path, last = name.split(".")
        part = whole
        for step in path:
            if not hasattr(part, step):
                part.add_module(step, Holder())
            part = getattr(part, step)
        part.register_buffer(last, tensor)
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["program", "state", "state in a checkpoint"])
def test_a_clip_loads_from_openais_own_file_and_from_the_state_of_it(tmp_path, clip, kind):
    whole, path = openai_like(clip), tmp_path / "RN50.pt"
    if kind == "program":
        saved(whole, path)
    else:
        torch.save({"state_dict": whole.state_dict()} if "checkpoint" in kind else whole.state_dict(), path)
    loaded = load_clip("RN50", str(path))
    assert all(
        torch.equal(value, clip.state_dict()[name].float())
        for name, value in loaded.model.state_dict().items()
        if value.is_floating_point()
    )
    with loadable(str(path)) as file:
        assert file != str(path)
    assert not os.path.exists(file)


def test_a_file_that_open_clip_loads_as_it_is_is_left_alone(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "state.pt")
    for weights in (None, "openai", str(tmp_path / "missing.pt"), str(tmp_path / "state.pt")):
        with loadable(weights) as file:
            assert file == weights
