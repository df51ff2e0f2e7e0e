"""Files that are whole or not there, safe tensor files, and the digests that tell one thing from another."""

import hashlib
import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from clippan_lib import files
from clippan_lib.errors import CheckpointError
from clippan_lib.files import (
    file_digest,
    keep,
    kept,
    library_digest,
    read_json,
    read_metadata,
    read_tensors,
    tensors_digest,
    write_json,
    write_tensors,
    write_text,
)

REMEDY = "do as you please"


def tensors():
    return {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2], dtype=torch.int64)}


def same(found, expected):
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
        for name, tensor in expected.items()
    )


# Whole or not there


def test_an_interrupted_text_leaves_the_old_one_and_nothing_beside_it(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"old": 1})

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a.json", "{}")
    assert read_json(tmp_path / "a.json") == {"old": 1}
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


@pytest.mark.parametrize(
    "write", [lambda path: write_json(path, [1, 2]), lambda path: write_tensors(path, tensors())]
)
def test_what_is_written_is_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch, write):
    path, seen, flush = tmp_path / "a", [], os.fsync

    def watched(descriptor):
        seen.append((path.exists(), os.fstat(descriptor).st_size))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write(path)
    assert seen == [(False, path.stat().st_size)]


CONTENT = {"key": "ab", "rows": [{"value": 0.1, "seed": None, "name": "é"}], "of": {"2": 1, "10": 2}}


def test_what_is_kept_comes_back_and_what_was_never_kept_is_nothing(tmp_path, caplog):
    keep(tmp_path / "a.json", CONTENT | {"pair": (1, 2), 3: 4})
    assert kept(tmp_path / "a.json") == CONTENT | {"pair": [1, 2], "3": 4}
    assert kept(tmp_path / "b.json") is None and not caplog.records


@pytest.mark.parametrize(
    "spoilt", [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"key": "ab"}']
)
def test_what_is_no_kept_work_is_named_and_not_used(tmp_path, caplog, spoilt):
    (tmp_path / "a.json").write_bytes(spoilt)
    assert kept(tmp_path / "a.json") is None
    assert f"{tmp_path / 'a.json'}: is empty, cut short or altered" in caplog.text


def test_kept_work_that_is_cut_anywhere_or_of_which_any_bit_turned_is_never_another(tmp_path):
    path = tmp_path / "a.json"
    keep(path, CONTENT)
    whole = path.read_bytes()
    for at in range(len(whole) - 1):  # the last byte is the end of the line
        path.write_bytes(whole[:at])
        assert kept(path) is None
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            assert kept(path) in (None, CONTENT)  # one kind of blank may have become another


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_write_of_tensors_leaves_the_old_file_and_nothing_beside_it(
    tmp_path, monkeypatch, call, error
):
    path = tmp_path / "a.safetensors"
    write_tensors(path, tensors(), {"of": "old"})

    def fails(*_):
        raise error

    monkeypatch.setattr(os, call, fails)
    with pytest.raises((KeyboardInterrupt, CheckpointError)) as told:
        write_tensors(path, {"a": torch.zeros(2)}, {"of": "new"})
    if isinstance(error, OSError):
        assert f"{path} cannot be written ([Errno 28] No space left on device); make room" in str(told.value)
    found, metadata = read_tensors(path, REMEDY)
    assert same(found, tensors()) and metadata == {"of": "old"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_a_folder_that_cannot_be_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/a\.safetensors cannot be written.*folder that can be"):
        write_tensors(tmp_path / "file" / "a.safetensors", tensors())


# Safe tensor files


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "bool"])
def test_every_kind_of_integer_comes_back_bit_by_bit(tmp_path, kind):
    values = torch.tensor([[0, 1, 100], [0, 1, 1]]).to(getattr(torch, kind))
    write_tensors(tmp_path / "a", {"x": values})
    assert same(read_tensors(tmp_path / "a", REMEDY)[0], {"x": values})


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_kind_of_number_comes_back_bit_by_bit(tmp_path, kind):
    values = torch.tensor([1 / 3, -0.0, torch.inf, 1e-7]).to(kind)
    write_tensors(tmp_path / "a", {"x": values})
    found = read_tensors(tmp_path / "a", REMEDY)[0]["x"]
    assert found.dtype == kind and torch.equal(found.view(torch.uint8), values.view(torch.uint8))


def test_any_layout_and_parts_of_one_another_are_written_by_value(tmp_path):
    image = torch.rand(2, 3, 4, 5)
    given = {
        "last": image.to(memory_format=torch.channels_last),
        "turned": image.transpose(2, 3),
        "whole": image,
        "part": image[:, 1:2, ::2],
        "again": image,
        "learned": torch.nn.Parameter(image[0]),
        "one": torch.tensor(3.0),
        "none": torch.empty(0, 3),
    }
    write_tensors(tmp_path / "new" / "folder" / "a", given)
    assert same(read_tensors(tmp_path / "new" / "folder" / "a", REMEDY)[0], given)
    assert given["last"].is_contiguous(memory_format=torch.channels_last)


def test_the_file_is_one_that_safetensors_reads(tmp_path):
    write_tensors(tmp_path / "a", tensors(), {"ü": "ß"})
    with safe_open(tmp_path / "a", "pt") as file:
        assert file.metadata()["ü"] == "ß" and torch.equal(file.get_tensor("a"), tensors()["a"])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_the_same_tensors_and_metadata_give_the_same_bytes_and_the_values_are_aligned(tmp_path):
    # safetensors alone writes six keys in 720 orders
    said = {f"key {number} ä": "value" for number in range(6)}
    for path in (tmp_path / f"{number}.safetensors" for number in range(5)):
        write_tensors(path, tensors(), said)
        assert path.read_bytes() == (tmp_path / "0.safetensors").read_bytes()
        assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0
        assert read_tensors(path, REMEDY)[1] == said
        with safe_open(path, "pt") as file:
            assert file.metadata().items() > said.items()


def test_others_may_read_the_file_as_far_as_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        write_tensors(tmp_path / "a", tensors())
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_tensors_that_were_read_outlive_their_file(tmp_path):
    path = tmp_path / "a"
    write_tensors(path, tensors())
    found, _ = read_tensors(path, REMEDY)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert same(found, tensors())


def test_metadata_are_read_without_the_tensors(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_tensors(path, tensors(), {"key": "1"})
    assert read_metadata(path, REMEDY) == {"key": "1"}
    write_tensors(path, tensors())
    assert read_metadata(path, REMEDY) == {}
    monkeypatch.setattr(files, "safe_open", Headers)
    assert read_metadata(path, REMEDY) == {"of": "Headers"}


class Headers:
    """A file that has metadata and nothing else."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def metadata(self):
        return {"of": "Headers"}


@pytest.mark.parametrize("read", [read_tensors, read_metadata])
def test_a_file_that_is_missing_cut_short_or_of_another_kind_is_named_with_what_to_do(tmp_path, read):
    path = tmp_path / "some.safetensors"

    def refused(path):
        with pytest.raises(CheckpointError) as told:
            read(path, REMEDY)
        assert str(told.value).startswith(f"{path} cannot be read as safetensors (")
        assert str(told.value).endswith(f"); {REMEDY}")

    refused(path)
    refused(tmp_path)
    write_tensors(path, tensors(), {"key": "1"})
    whole = path.read_bytes()
    for length in (0, 4, 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path)
    path.write_text("a few words, more than eight bytes")
    refused(path)


# Digests


def test_the_digest_of_tensors_by_hand():
    tensor = torch.tensor([[1.0, -2.0]])
    content = (
        b"a (1, 2) torch.float32;" + struct.pack("<2f", 1, -2) + b"b () torch.int16;" + struct.pack("<h", 7)
    )
    expected = hashlib.sha256(content).hexdigest()
    assert tensors_digest({"b": torch.tensor(7, dtype=torch.int16), "a": tensor}) == expected


def test_a_digest_sees_names_shapes_kinds_and_every_bit_but_no_layout_and_no_order():
    tensor = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    digests = {
        tensors_digest({"a": tensor}),
        tensors_digest({"b": tensor}),
        tensors_digest({"a": tensor[None]}),
        tensors_digest({"a": tensor.view(torch.int32)}),
        tensors_digest({"a": torch.nextafter(tensor, tensor + 1)}),
        tensors_digest({"a": tensor.T}),
    }
    assert len(digests) == 6
    assert tensors_digest({"a": tensor.T.contiguous().T}) == tensors_digest({"a": tensor})
    both = {"a": tensor, "b": tensor[None]}
    assert tensors_digest(both) == tensors_digest(dict(reversed(both.items())))


def test_the_digest_of_a_file_by_hand(tmp_path):
    # the two test vectors of FIPS 180 that fit into a line
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "b") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "c")


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of one's own in place of the real one."""
    monkeypatch.setattr(files, "PACKAGE", tmp_path)
    library_digest.cache_clear()
    yield tmp_path
    library_digest.cache_clear()


def anew():
    library_digest.cache_clear()
    return library_digest()


def test_the_digest_of_the_library_by_hand(library):
    (library / "room").mkdir()
    (library / "room" / "b.py").write_bytes(b"abc")
    (library / "a.json").write_bytes(b"")
    (library / "room" / "b.cpython-311.pyc").write_bytes(b"of no account")
    (library / "a.md").write_bytes(b"of no account")
    empty, abc = (hashlib.sha256(content).hexdigest() for content in (b"", b"abc"))
    assert library_digest() == hashlib.sha256(f"a.json {empty};room/b.py {abc};".encode()).hexdigest()


@pytest.mark.parametrize("suffix", [".py", ".json", ".safetensors"])
def test_the_digest_of_the_library_sees_each_file_its_name_and_its_content(library, suffix):
    seen, path = {anew()}, library / f"a{suffix}"
    path.write_bytes(b"1")
    seen.add(anew())
    path.write_bytes(b"2")
    seen.add(anew())
    path.rename(library / f"b{suffix}")
    seen.add(anew())
    (library / f"b{suffix}").rename(library / f"b1{suffix}")
    seen.add(anew())
    assert len(seen) == 5


def test_the_digest_of_the_library_is_made_once(library):
    before = library_digest()
    (library / "a.py").write_bytes(b"1")
    assert library_digest() == before != anew()


def test_the_real_library_is_what_is_digested():
    assert Path(files.__file__).parent == files.PACKAGE
    assert (files.PACKAGE / "assets" / "embedded_clip.safetensors").is_file()
    assert json.loads((files.PACKAGE / "assets" / "embedded_clip.json").read_text())
