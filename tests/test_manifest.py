"""Manifests are checked whole, and every refusal names file, field, value and remedy."""

from pathlib import Path

import pytest
import yaml

from clippan_lib.data import ManifestError, load_manifest
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
    assert manifest.resolve_sensor() == SENSORS[manifest.sensor]
    assert manifest.licence and manifest.citation and manifest.how_to_get


def test_the_repository_has_manifests_of_every_kind():
    kinds = {load_manifest(path).source.kind for path in MANIFESTS}
    assert kinds == {"synthetic", "mat_pair", "nbu", "pancollection"}


def test_a_custom_sensor_block_becomes_a_sensor(tmp_path):
    sensor = load_manifest(written(tmp_path, sensor=CUSTOM)).resolve_sensor()
    assert (sensor.name, sensor.n_bands, sensor.max_value, sensor.ratio) == ("TOY", 3, 4095, 3)


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
        ({"sensor": {**CUSTOM, "gain": 1}}, ["sensor.CustomSensor.gain", "unknown"]),
        ({"colour": "red"}, ["field colour = 'red'", "correct its spelling"]),
        ({"name": "Mine!"}, ["field name = 'Mine!'"]),
        ({"title": 3}, ["field title = 3", "string"]),
        ({"max_value": 0}, ["field max_value = 0", "greater than 0"]),
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
    ],
)
def test_a_bad_field_is_refused_by_name_with_the_value_seen(tmp_path, changes, said):
    path = written(tmp_path, **changes)
    with pytest.raises(ManifestError) as refusal:
        load_manifest(path)
    for words in (str(path), *said):
        assert words in str(refusal.value)


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
