"""Files that are not what a dataset must hold: refused with the file, what was seen and what to do."""

import h5py
import numpy as np
import pytest
from layouts import (
    SHARES,
    h5_dataset,
    manifest,
    mat_dataset,
    nbu_dataset,
    open_nbu,
    pair,
    save_h5,
    save_v5,
    save_v73,
)

from clippan_lib.data import open_dataset
from clippan_lib.errors import DataError


def refused(action, *said: str) -> None:
    with pytest.raises(DataError) as refusal:
        action()
    for words in said:
        assert words in str(refusal.value)


def read_train(dataset):
    return dataset.scenes("train", "full")[0].read()


def test_a_missing_file_is_refused(tmp_path):
    source = {"kind": "mat_pair", "path": "gone.mat", "keys": {"lrms": "a", "pan": "b"}}
    refused(lambda: open_dataset(manifest(source), tmp_path), "gone.mat: no such file", "data_root")
    source = {"kind": "pancollection", "files": {"train_reduced": "gone.h5"}}
    refused(lambda: open_dataset(manifest(source), tmp_path), "none of gone.h5 is there", "data_root")
    save_h5(tmp_path / "there.h5")
    source = {"kind": "pancollection", "files": {"train_reduced": "gone.h5", "val_reduced": "there.h5"}}
    dataset = open_dataset(manifest(source), tmp_path)
    refused(lambda: dataset.scenes("train", "reduced"), "gone.h5: no such file", "how_to_get")


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("save", [save_v5, save_v73])
def test_a_truncated_mat_file_is_refused(tmp_path, save, keep):
    def truncated(path, **arrays):
        save(path, **arrays)
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])

    refused(lambda: read_train(mat_dataset(tmp_path, *pair(), truncated)), "scene.mat", "get it again")


@pytest.mark.parametrize("content", [b"", b"not a data file at all" * 20])
def test_a_file_of_another_format_is_refused(tmp_path, content):
    (tmp_path / "train_reduced.h5").write_bytes(content)
    dataset = h5_dataset(tmp_path)
    refused(lambda: dataset.scenes("train", "reduced"), "train_reduced.h5", "get it again")

    def save(path, **_):
        path.write_bytes(content)

    refused(lambda: mat_dataset(tmp_path, *pair(), save), "scene.mat", "get it again")


def test_a_truncated_hdf5_file_is_refused(tmp_path):
    path = tmp_path / "train_reduced.h5"
    save_h5(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(lambda: h5_dataset(tmp_path).scenes("train", "reduced"), str(path), "truncated", "get it again")


def test_hdf5_with_a_corrupt_block_is_refused_when_it_is_read(tmp_path):
    path = tmp_path / "train_reduced.h5"
    arrays = save_h5(path, ms=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("ms", data=arrays["gt"][..., :8, :8], chunks=(6, 4, 8, 8), fletcher32=True)
        offset = file["ms"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\x07" * 64)
    refused(h5_dataset(tmp_path).scenes("train", "reduced")[0].read, str(path), "'ms'", "corrupt")


@pytest.mark.parametrize("save", [save_v5, save_v73])
def test_a_wrong_key_lists_those_there_are(tmp_path, save):
    keys = {"keys": {"lrms": "I_MS_LR", "pan": "I_PAN"}}
    refused(
        lambda: mat_dataset(tmp_path, *pair(), save, source=keys), "no key 'I_MS_LR'", "['I_MS', 'I_PAN']"
    )


def test_hdf5_without_a_reference_is_refused_as_reduced_resolution(tmp_path):
    save_h5(tmp_path / "train_reduced.h5", gt=None)
    refused(lambda: h5_dataset(tmp_path).scenes("train", "reduced"), "no key 'gt'", "['lms', 'ms', 'pan']")


@pytest.mark.parametrize(
    ("lrms", "pan", "said"),
    [
        ((24, 32, 8), (96, 128), ["shape (24, 32, 8)", "QB", "4 bands"]),
        ((4, 24, 32), (96, 128), ["(4, 24, 32)", "looks like (band, row, column)"]),
        ((24, 32), (96, 128), ["shape (24, 32)", "4 bands"]),
        ((24, 32, 4), (128, 96), ["24 x 32", "128 x 96", "exchanged"]),
        ((24, 32, 4), (48, 64), ["ratio 2", "QB has 4"]),
        ((24, 32, 4), (96, 127), ["96 x 127", "PAN must be 4 times"]),
        ((24, 32, 4), (96, 128, 2), ["96 x 128 x 2"]),
    ],
)
def test_arrays_of_the_wrong_shape_are_refused(tmp_path, lrms, pan, said):
    arrays = np.ones(lrms, np.uint16), np.ones(pan, np.uint16)
    refused(lambda: mat_dataset(tmp_path, *arrays), "scene.mat", *said)


@pytest.mark.parametrize(
    ("replace", "said"),
    [
        ({"ms": np.ones((6, 8, 8, 4))}, ["'ms'", "(6, 8, 8, 4)", "looks like NHWC"]),
        ({"ms": np.ones((6, 8, 8, 8))}, ["'ms'", "4 bands", "QB"]),
        ({"gt": np.ones((6, 4, 16, 16))}, ["8 x 8", "16 x 16", "ratio 2"]),
        ({"pan": np.ones((6, 32, 32))}, ["'pan'", "(6, 32, 32)"]),
        ({"pan": np.ones((5, 1, 32, 32))}, ["'pan': 5", "must be equal"]),
        (
            {"ms": np.ones((0, 4, 8, 8)), "pan": np.ones((0, 1, 32, 32)), "gt": np.ones((0, 4, 32, 32))},
            ["not zero"],
        ),
    ],
)
def test_hdf5_arrays_of_the_wrong_shape_are_refused(tmp_path, replace, said):
    save_h5(tmp_path / "train_reduced.h5", **replace)
    refused(lambda: h5_dataset(tmp_path).scenes("train", "reduced"), "train_reduced.h5", *said)


def test_a_pancollection_file_of_another_sensor_is_refused(tmp_path):
    save_h5(tmp_path / "train_reduced.h5")
    refused(lambda: h5_dataset(tmp_path, "WV3").scenes("train", "reduced"), "(6, 4, 8, 8)", "8 bands", "WV3")


BAD_VALUES = [
    (np.nan, "1 of 3072 values are NaN or infinite"),
    (np.inf, "1 of 3072 values are NaN or infinite"),
    (-1.0, "holds -1, a negative value"),
    (4095.0, "holds 4095, above the largest value 2047"),
]


@pytest.mark.parametrize(("value", "said"), BAD_VALUES)
@pytest.mark.parametrize("save", [save_v5, save_v73])
def test_values_that_no_sensor_gives_are_refused(tmp_path, save, value, said):
    lrms, pan = pair(24, 64)
    lrms = lrms.astype(np.float64)
    lrms[3, 4, 1] = value
    refused(lambda: read_train(mat_dataset(tmp_path, lrms, pan, save)), "scene.mat: key 'I_MS'", said)


@pytest.mark.parametrize(("value", "said"), [(v, s.replace("3072", "256")) for v, s in BAD_VALUES])
def test_values_that_no_sensor_gives_are_refused_in_hdf5_where_they_are_read(tmp_path, value, said):
    save_h5(tmp_path / "train_reduced.h5")
    with h5py.File(tmp_path / "train_reduced.h5", "a") as file:
        file["ms"][3, 2, 5, 6] = value
    scenes = h5_dataset(tmp_path).scenes("train", "reduced")
    scenes[2].read()
    refused(scenes[3].read, "train_reduced.h5: key 'ms', scenes 3..3", said)


def test_ten_bit_data_read_as_eleven_bit_is_the_users_word_and_the_reverse_is_refused(tmp_path):
    lrms, pan = pair()
    refused(lambda: read_train(mat_dataset(tmp_path, lrms, pan, sensor="GF2")), "above", "1023", "max_value")


@pytest.mark.parametrize(("dtype", "seen"), [(np.complex128, "complex"), (object, "object")])
def test_values_that_are_no_real_numbers_are_refused(tmp_path, dtype, seen):
    lrms, pan = pair()
    bad = lrms.astype(dtype) + (1j if dtype is np.complex128 else 0)
    refused(lambda: read_train(mat_dataset(tmp_path, bad, pan)), "'I_MS'", seen, "real numbers")


def test_another_file_than_the_manifests_names_both_hashes(tmp_path):
    stated = "0" * 64
    with pytest.raises(DataError, match=f"scene.mat: sha256 is [0-9a-f]{{64}}, the manifest says {stated}"):
        mat_dataset(tmp_path, *pair(), source={"sha256": stated})


def test_a_scene_too_small_to_be_split_or_degraded_is_refused(tmp_path):
    refused(lambda: mat_dataset(tmp_path, *pair(8, 2)).available, "2 LRMS px cannot be cut into 3 splits")
    dataset = mat_dataset(tmp_path, *pair(8, 8))
    assert dataset.scenes("val", "full")[0].width == 2
    refused(lambda: dataset.scenes("val", "reduced"), "8 x 2 LRMS px are too few", "larger share")


def test_nbu_without_scenes_without_partners_or_of_other_sizes_is_refused(tmp_path):
    refused(lambda: open_nbu(tmp_path), "MS: zero scenes", "data_root")
    dataset = nbu_dataset(tmp_path, 3)
    save_v5(tmp_path / "MS" / "2.mat", imgMS=pair(8, 12)[0])
    save_v5(tmp_path / "PAN" / "2.mat", imgPAN=pair(8, 12)[1])
    odd = next(s for split in SHARES for s in dataset.scenes(split, "full") if s.name == "2")
    refused(odd.read, "2.mat", "(8, 12)", "all must be equal")
    (tmp_path / "PAN" / "3.mat").unlink()
    refused(lambda: open_nbu(tmp_path), "1 files lack a partner", "3.mat")


def test_a_window_that_leaves_the_scene_is_refused(tmp_path):
    scene = mat_dataset(tmp_path, *pair()).scenes("train", "full")[0]
    refused(lambda: scene.read(top=20, height=5), "top 20", "24 x 16", "keep within")
    refused(lambda: scene.read(left=-1, width=2), "left -1")
    refused(lambda: scene.read(left=16), "width 0")
