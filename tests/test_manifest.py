"""Manifests are checked whole, and every refusal names file, field, value and remedy."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from layouts import pair, save_v5

from clippan_lib.data import load_manifest, open_dataset
from clippan_lib.errors import ManifestError
from clippan_lib.sensors import SENSORS

MANIFESTS = sorted((Path(__file__).parents[1] / "data_manifests").glob("*.yaml"))
GOOD = {
    "name": "mine",
    "title": "a scene",
    "sensor": "WV2",
    "source": {"kind": "mat_pair", "path": "a.mat", "keys": {"lrms": "I_MS", "pan": "I_PAN"}},
    "split": {"train": 0.6, "val": 0.2, "test": 0.2},
    "licence": "mine",
    "citation": "none",
    "homepage": "none",
    "how_to_get": "ask",
}
SYNTHETIC = {"kind": "synthetic", "scenes": {"train": 1, "val": 1, "test": 1}, "size": 64, "seed": 0}
GEOTIFF = {"kind": "geotiff", "ms": "in/ms.tif", "pan": "pan.tif"}
CUSTOM = {
    "name": "TOY",
    "bands": ["red", "green", "nir"],
    "bits": 12,
    "ratio": 3,
    "gnyq": [0.3, 0.3, 0.25],
    "gnyq_pan": 0.15,
    "rgb": [0, 1, 1],
    "gbnir": [1, 1, 2],
}


def written(folder: Path, **changes) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return path


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_manifest_of_the_repository_loads_and_is_named_after_its_file(path):
    manifest = load_manifest(path)
    assert manifest.name == path.stem
    assert manifest.file == path
    if isinstance(manifest.sensor, str):
        assert manifest.resolve_sensor() == SENSORS[manifest.sensor]
    assert manifest.licence and manifest.citation and manifest.how_to_get


def test_the_repository_has_manifests_of_every_kind():
    kinds = {load_manifest(path).source.kind for path in MANIFESTS}
    assert kinds == {"synthetic", "mat_pair", "geotiff", "nbu", "pancollection"}


def test_gaofen_1_has_the_default_gains_and_says_that_they_are_no_measurement():
    (path,) = [path for path in MANIFESTS if path.stem == "nbu_gf1"]
    sensor = load_manifest(path).resolve_sensor()
    assert replace(sensor, name="GF2") == SENSORS["GF2"]
    assert not sensor.measured


@pytest.mark.parametrize(
    ("satellite", "bands"), [("ikonos", 4), ("qb", 4), ("gf1", 4), ("wv4", 4), ("wv2", 8), ("wv3", 8)]
)
def test_every_satellite_of_nbu_has_a_manifest_that_reads_its_layout(tmp_path, satellite, bands):
    (path,) = [path for path in MANIFESTS if path.stem == f"nbu_{satellite}"]
    manifest = load_manifest(path)
    for folder in manifest.source.paths:
        (tmp_path / folder).mkdir()
    for number in range(1, 4):
        lrms, pan = pair(8, 8, bands, seed=number)
        save_v5(tmp_path / f"MS_256/{number}.mat", imgMS=lrms // 2)  # 10 bits, which every sensor here has
        save_v5(tmp_path / f"PAN_1024/{number}.mat", imgPAN=pan // 2)
    scene = open_dataset(manifest, tmp_path).scenes("train", "full")[0].read()
    assert scene.lrms.shape == (1, bands, 8, 8)


@pytest.mark.parametrize(
    ("sensor", "count"), [("wv3", "9714"), ("qb", "17139"), ("gf2", "19809"), ("wv2", None)]
)
def test_every_file_of_pancollection_has_the_address_of_its_split(sensor, count):
    (path,) = [path for path in MANIFESTS if path.stem == f"pancollection_{sensor}"]
    manifest = load_manifest(path)
    assert set(manifest.downloads) == set(manifest.source.paths)
    split_of = {path: split for (split, _), path in manifest.source.files.listed.items()}
    prefix = {"train": "train", "val": "valid", "test": "test"}
    for path, download in manifest.downloads.items():
        name = download.url.rsplit("/", 1)[1]
        assert name.startswith(f"{prefix[split_of[path]]}_{sensor}_")
        assert ("OrigScale" in name) == (path == manifest.source.files.test_full)
        assert split_of[path] == "test" or name.endswith(f"_{count}.h5")
    assert split_of.keys() == manifest.downloads.keys()


def test_a_stated_hash_is_found_by_the_files_path(tmp_path):
    hashed = {"source": {**GOOD["source"], "sha256": "a" * 64}}
    manifest = load_manifest(written(tmp_path, **hashed))
    assert (manifest.sha256("a.mat"), manifest.sha256("b.mat")) == ("a" * 64, None)
    files = {"kind": "pancollection", "files": {"test_full": "a.h5", "test_reduced": "b.h5"}}
    downloads = {"a.h5": {"url": "https://x.org/a", "sha256": "b" * 64}, "b.h5": {"url": "https://x.org/b"}}
    manifest = load_manifest(written(tmp_path, source=files, split=None, downloads=downloads))
    assert [manifest.sha256(path) for path in ("a.h5", "b.h5", "c.h5")] == ["b" * 64, None, None]


def test_the_two_files_of_a_geotiff_pair_are_fetched_like_any_other(tmp_path):
    downloads = {"pan.tif": {"url": "https://x.org/p", "sha256": "c" * 64}}
    manifest = load_manifest(written(tmp_path, source=GEOTIFF, downloads=downloads))
    assert manifest.source.paths == ("in/ms.tif", "pan.tif")
    assert [manifest.sha256(path) for path in manifest.source.paths] == [None, "c" * 64]


def test_a_custom_sensor_block_becomes_a_sensor(tmp_path):
    sensor = load_manifest(written(tmp_path, sensor=CUSTOM)).resolve_sensor()
    assert (sensor.name, sensor.n_bands, sensor.max_value, sensor.ratio) == ("TOY", 3, 4095, 3)


def test_bands_that_the_source_names_are_those_of_the_sensor_in_that_order(tmp_path):
    for bands in (["Red", "green", "coastal"], ["B4", "B3", "B1"]):
        described = load_manifest(written(tmp_path, sensor="L8", source={**GEOTIFF, "bands": bands}))
        assert described.resolve_sensor() == SENSORS["L8"].only(["red", "green", "coastal"])
        assert described.whole_sensor() is SENSORS["L8"]
    described = load_manifest(written(tmp_path, sensor=CUSTOM, source={**GEOTIFF, "bands": ["nir", "red"]}))
    assert described.resolve_sensor().gnyq == (CUSTOM["gnyq"][2], CUSTOM["gnyq"][0])
    described = load_manifest(
        written(tmp_path, sensor="QB", source={**GEOTIFF, "bands": ["w", "x", "y", "z"]})
    )
    assert described.resolve_sensor() is SENSORS["QB"]


def test_the_digest_follows_the_content_and_not_its_layout(tmp_path):
    path = written(tmp_path)
    digest = load_manifest(path).digest()
    path.write_text("# a remark\n" + yaml.safe_dump(dict(reversed(GOOD.items()))))
    assert load_manifest(path).digest() == digest
    assert load_manifest(written(tmp_path, sensor="WV3")).digest() != digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sensor": "WV9"}, ["sensor", "'WV9'", "WV2, WV3"]),
        ({"sensor": {**CUSTOM, "gnyq": [0.3]}}, ["sensor", "1 gains for 3 bands"]),
        ({"sensor": {**CUSTOM, "gain": 1}}, ["sensor.Sensor.gain", "unknown"]),
        ({"colour": "red"}, ["field colour = 'red'", "correct its spelling"]),
        ({"name": "Mine!"}, ["field name = 'Mine!'"]),
        ({"title": 3}, ["field title = 3", "string"]),
        ({"max_value": 0}, ["field max_value = 0", "greater than or equal to 0.000001"]),
        ({"max_value": 1e300}, ["field max_value = 1e+300", "less than or equal to 4294967296"]),
        ({"split": {"train": 0.6, "val": 0.2, "test": 0.3}}, ["field split", "sum to 1.1"]),
        ({"split": {"train": 1.6, "val": -0.2, "test": -0.4}}, ["split.train = 1.6", "split.val = -0.2"]),
        ({"split": None}, ["split is missing", "mat_pair"]),
        ({"source": {"kind": "tiff"}}, ["field source", "'tiff'", "pancollection"]),
        ({"source": {**GOOD["source"], "sha256": "abc"}}, ["source.mat_pair.sha256 = 'abc'"]),
        ({"source": {"kind": "mat_pair", "path": "a.mat"}}, ["source.mat_pair.keys is missing"]),
        ({"source": SYNTHETIC}, ["split is given", "synthetic", "remove it"]),
        ({"source": {**SYNTHETIC, "size": 72}, "split": None}, ["source.size 72", "16"]),
        ({"source": {**SYNTHETIC, "seed": 40}, "split": None}, ["source.synthetic.seed = 40"]),
        (
            {"source": {"kind": "pancollection", "files": {}}, "split": None},
            ["no file is listed", "test_full"],
        ),
        ({"source": GEOTIFF, "split": None}, ["split is missing", "geotiff"]),
        ({"source": {**GEOTIFF, "ms": "/ms.tif"}}, ["source.geotiff.ms = '/ms.tif'", "below data_root"]),
        ({"source": {**GEOTIFF, "pan": "../p.tif"}}, ["source.geotiff.pan = '../p.tif'", "without .."]),
        ({"source": {**GEOTIFF, "areas": 0}}, ["source.geotiff.areas = 0"]),
        ({"source": {**GEOTIFF, "bands": [0, 1]}}, ["source.geotiff.bands", "greater than or equal to 1"]),
        ({"source": {**GEOTIFF, "bands": [1, 2, 3]}}, ["bands lists 3", "WV2 has 8", "describe a sensor"]),
        (
            {"sensor": "QB", "source": {**GEOTIFF, "bands": ["Red", "x", "y", "nir"]}},
            ["source.bands has Red where sensor QB has blue", "blue, green, red, nir"],
        ),
        (
            {"sensor": "QB", "source": {**GEOTIFF, "bands": ["Red", "red"]}},
            ["bands red, red of sensor QB: give each once"],
        ),
        (
            {"sensor": "QB", "source": {**GEOTIFF, "bands": ["red", "x"]}},
            ["source.bands lists 2, but sensor QB has 4", "names of those you want (blue, green, red, nir)"],
        ),
        ({"source": GEOTIFF, "downloads": {"ms.tif": {"url": "https://x.org"}}}, ["downloads has ms.tif"]),
        (
            {"downloads": {"a.mat": {"url": "file:///etc/passwd"}}},
            ["downloads.a.mat.url = 'file:///etc/passwd'"],
        ),
        ({"downloads": {"a.mat": {"url": "https://x.org", "md5": "1"}}}, ["downloads.a.mat.md5", "unknown"]),
        ({"downloads": {"b.mat": {"url": "https://x.org"}}}, ["downloads has b.mat", "reads a.mat"]),
        (
            {"downloads": {"a.mat": {"url": "https://x.org", "sha256": "a" * 64}}},
            ["downloads.a.mat.sha256", "source.sha256; move it"],
        ),
    ],
)
def test_a_bad_field_is_refused_by_name_with_the_value_seen(tmp_path, changes, said):
    path = written(tmp_path, **changes)
    with pytest.raises(ManifestError) as refusal:
        load_manifest(path)
    for words in (str(path), *said):
        assert words in str(refusal.value)


@pytest.mark.parametrize("path", ["../a.mat", "in/../../a.mat", "/etc/a.mat", "C:/a.mat", "..\\a.mat", ""])
def test_a_download_that_would_leave_the_data_folder_is_refused(tmp_path, path):
    source = {**GOOD["source"], "path": path}
    file = written(tmp_path, source=source, downloads={path: {"url": "https://x.org/a.mat"}})
    with pytest.raises(ManifestError, match="must lie below data_root"):
        load_manifest(file)


def test_a_missing_field_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in GOOD.items() if key != "licence"}))
    with pytest.raises(ManifestError, match="field licence is missing"):
        load_manifest(path)


@pytest.mark.parametrize(
    ("text", "said"), [("a: [1", "not valid YAML"), ("- 1\n- 2", "holds list"), ("", "holds NoneType")]
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text, said):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ManifestError, match=said):
        load_manifest(path)


def test_a_manifest_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="nowhere.yaml: cannot be read"):
        load_manifest(tmp_path / "nowhere.yaml")
