"""Finished tiles on disk: each is looked at before it is used, and nothing that is not ours is touched."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from scenes import scene

from clippan_lib.errors import OutputError
from clippan_lib.files import read_tensors, write_tensors
from clippan_lib.sharpening import Job, parts, plan_job, sharpen
from clippan_lib.sharpening.parts import MARK, Parts


class Stopped(Exception):
    """What a job was stopped by."""


def planned(folder: Path, method: str = "exp") -> Job:
    return plan_job(*scene(folder), method, tile=128, shift=(0.0, 0.0))


@pytest.fixture
def job(tmp_path) -> Job:
    return planned(tmp_path)


def stop(job: Job, out: Path, after: int = 4) -> Path:
    """Stop a job when so many tiles are there; its folder."""

    def progress(label, done, *_):
        if label == "fusing" and done >= after:
            raise Stopped

    with pytest.raises(Stopped):
        sharpen(job, out, progress=progress)
    return out.with_name(f".{out.name}.tiles")


def gone(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def turned(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(bytes(content))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def of_another_size(path: Path) -> None:
    tensors, said = read_tensors(path, "")
    write_tensors(path, {"image": tensors["image"][:, 1:].clone()}, said)


def of_another_type(path: Path) -> None:
    tensors, said = read_tensors(path, "")
    write_tensors(path, {"image": tensors["image"].to(torch.int32)}, said)


def of_another_place(path: Path) -> None:
    shutil.copy(path.with_name("0_0.safetensors"), path)


def unsigned(path: Path) -> None:
    tensors, _ = read_tensors(path, "")
    write_tensors(path, {"image": torch.zeros_like(tensors["image"])})


@pytest.mark.parametrize(
    "spoil", [gone, cut, turned, longer, of_another_size, of_another_type, of_another_place, unsigned]
)
def test_a_spoilt_tile_is_named_thrown_away_and_fused_again_by_the_same_command(job, tmp_path, caplog, spoil):
    sharpen(job, tmp_path / "whole.tif")
    folder = stop(job, tmp_path / "o.tif")
    spoil(folder / "0_32.safetensors")
    sharpen(job, tmp_path / "o.tif")
    assert re.search(r"0_32\.safetensors .*; it is thrown away, and that tile fused again", caplog.text)
    assert (tmp_path / "o.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert not folder.exists()


@pytest.mark.parametrize("content", ["", "{", '{"key": "another"}', "[1]"])
def test_a_spoilt_record_of_a_job_is_named_and_its_tiles_are_not_used(job, tmp_path, caplog, content):
    sharpen(job, tmp_path / "whole.tif")
    folder = stop(job, tmp_path / "o.tif")
    (folder / "job.json").write_text(content)
    sharpen(job, tmp_path / "o.tif")
    assert f"{folder / 'job.json'}: is empty, cut short or altered" in caplog.text
    assert (tmp_path / "o.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


@pytest.mark.parametrize("holds", ["nothing", "a stranger's file", "a tile's name"])
def test_a_folder_that_is_not_ours_is_refused_by_name_and_left_as_it_is(job, tmp_path, holds):
    folder = tmp_path / ".o.tif.tiles"
    folder.mkdir()
    name = {"nothing": None, "a stranger's file": "thesis.txt", "a tile's name": "0_0.safetensors"}[holds]
    if name:
        (folder / name).write_text("of years")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match=r"\.o\.tif\.tiles: is no folder that CLIPPan made"):
        sharpen(job, tmp_path / "o.tif")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before and folder.is_dir()
    assert not (tmp_path / "o.tif").exists()


@pytest.mark.parametrize("kind", ["file", "link to a folder", "link to a folder of ours", "link to nothing"])
def test_a_file_or_a_link_in_the_place_of_the_folder_is_refused_and_never_followed(job, tmp_path, kind):
    folder, target = tmp_path / ".o.tif.tiles", tmp_path / "elsewhere"
    if kind == "file":
        folder.write_text("of years")
    else:
        folder.symlink_to(target)
    if "folder" in kind:
        target.mkdir()
        (target / "thesis.txt").write_text("of years")
    if "ours" in kind:
        (target / MARK).touch()
    with pytest.raises(OutputError, match=r"\.o\.tif\.tiles: is no folder that CLIPPan made"):
        sharpen(job, tmp_path / "o.tif")
    assert os.path.lexists(folder) and ("folder" not in kind or (target / "thesis.txt").exists())


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_a_stranger_put_among_the_tiles_is_refused_and_stays(job, tmp_path, kind):
    folder = stop(job, tmp_path / "o.tif")
    other = folder / ("thesis.txt" if kind == "file" else "9_9.safetensors")
    (tmp_path / "mine").write_text("of years")
    {
        "file": lambda: other.write_text("of years"),
        "folder": other.mkdir,
        "link": lambda: other.symlink_to(tmp_path / "mine"),
    }[kind]()
    for method in ("exp", "gihs"):
        with pytest.raises(OutputError, match=f"{other.name}: was not written by CLIPPan"):
            sharpen(planned(tmp_path, method), tmp_path / "o.tif")
    assert os.path.lexists(other) and (tmp_path / "mine").exists()
    assert len([*folder.glob("*.safetensors")]) >= 4


def test_a_lock_that_is_a_link_is_not_followed(job, tmp_path):
    folder = stop(job, tmp_path / "o.tif")
    (tmp_path / "mine").write_text("of years")
    (folder / ".lock").unlink(missing_ok=True)
    (folder / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OutputError, match=r"\.lock: was not written by CLIPPan"):
        sharpen(job, tmp_path / "o.tif")
    assert (tmp_path / "mine").read_text() == "of years"


def no_room(monkeypatch) -> None:
    monkeypatch.setattr(parts.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 5, 5))


def test_a_job_that_finds_no_room_leaves_nothing(job, tmp_path, monkeypatch):
    before = sorted(tmp_path.iterdir())
    no_room(monkeypatch)
    with pytest.raises(OutputError, match="make room"):
        sharpen(job, tmp_path / "o.tif")
    assert sorted(tmp_path.iterdir()) == before


def test_a_job_that_finds_no_room_costs_another_job_no_tile(job, tmp_path, monkeypatch):
    folder = stop(job, tmp_path / "o.tif")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    no_room(monkeypatch)
    with pytest.raises(OutputError, match="make room"):
        sharpen(planned(tmp_path, "gihs"), tmp_path / "o.tif")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_job_that_fails_before_its_first_tile_leaves_nothing(job, tmp_path, monkeypatch):
    before = sorted(tmp_path.iterdir())

    def failed(*_):
        raise Stopped

    monkeypatch.setattr("clippan_lib.sharpening.passes._visit", failed)
    with pytest.raises(Stopped):
        sharpen(job, tmp_path / "o.tif")
    assert sorted(tmp_path.iterdir()) == before


def test_a_late_tile_of_a_stopped_job_makes_no_folder(job, tmp_path):
    late = Parts(tmp_path / "o.tif", job)
    with pytest.raises(OutputError, match=r"\.o\.tif\.tiles: is gone"):
        late.save(
            parts.Tile(slice(0, 1), slice(0, 1)),
            parts.Fused(torch.zeros(1, 4, 4, 4), torch.ones(1, 1, 4, 4).bool()),
        )
    assert not late.folder.exists()
