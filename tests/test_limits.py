"""Numbers, names and texts beyond all reason are refused in one line, with status 2, before anything runs."""

from pathlib import Path

import pytest
import yaml
from test_manifest import written

from clippan_lib import cli
from clippan_lib.commands.assignments import parse_assignments
from clippan_lib.data import load_manifest, open_dataset
from clippan_lib.data.fields import DEEPEST, LONGEST
from clippan_lib.data.manifest import load_sensor
from clippan_lib.errors import ManifestError, Refusal
from clippan_lib.runs.limits import refuse_name
from clippan_lib.runs.plan import plan_run
from clippan_lib.training.config import make_config

MANIFESTS = Path(__file__).resolve().parents[1] / "data_manifests"
SYNTHETIC = str(MANIFESTS / "synthetic_wv3.yaml")
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
TEXTS = {
    "aliases": (LAUGHS, "has an alias, *a in line 2"),
    "an alias": ("title: &t x\ncitation: *t\n", "has an alias, *t in line 2"),
    "itself": ("x: &x [*x]\n", "has an alias, *x in line 1"),
    "brackets": ("x: " + "[" * 100_000, f"is nested {DEEPEST + 1} deep in line 1"),
    "closed brackets": ("x: " + "[" * 3000 + "]" * 3000, f"is nested {DEEPEST + 1} deep"),
    "braces": ("x: " + "{a: " * 500 + "1" + "}" * 500, f"is nested {DEEPEST + 1} deep"),
    "blocks": (
        "x:\n" + "".join(" " * n + "-\n" for n in range(1, 500)),
        f"is nested {DEEPEST + 1} deep in line",
    ),
    "length": ("x: 1\n#" + "y" * LONGEST, f"has more than {LONGEST} bytes"),
    "digits": ("x: " + "9" * 5000, "4300 digits"),
    "digits of another base": ("x: 0x" + "f" * 10_000, "4300 digits"),
    "no date": ("x: 2001-13-45", "month must be in 1..12"),
    "a name that is no text": ("2001-01-01: x", "field 2001-01-01 is unknown"),
}


@pytest.mark.parametrize("load", [load_manifest, load_sensor])
@pytest.mark.parametrize("kind", TEXTS)
def test_yaml_that_grows_is_nested_or_too_long_is_refused_before_it_is_read(tmp_path, load, kind):
    text, said = TEXTS[kind]
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ManifestError) as refusal:
        load(tmp_path / "m.yaml")
    assert said in str(refusal.value) and str(refusal.value).startswith(f"{tmp_path}/m.yaml: ")
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 500


@pytest.mark.parametrize("kind", ["aliases", "brackets", "closed brackets", "length", "digits", "no date"])
def test_the_same_holds_for_values_of_options(kind):
    text, said = TEXTS[kind]
    value = text.removeprefix("x: ").replace("\n#", " ")
    with pytest.raises(Refusal) as refusal:
        parse_assignments([f"a={value if kind != 'aliases' else '[&a [1], *a]'}"])
    assert said.partition(" in line")[0] in str(refusal.value) and len(str(refusal.value)) < 600


def test_a_text_within_the_limits_is_read(tmp_path):
    assert load_manifest(written(tmp_path, title="x" * 2000)).title == "x" * 2000
    value = "[" * DEEPEST + "]" * DEEPEST
    assert str(parse_assignments([f"a={value}"])["a"]) == value


def test_a_long_value_of_a_wrong_field_is_not_shown_whole(tmp_path):
    with pytest.raises(ManifestError, match=r"field colour = 'x+ \.\.\. \(50002 characters\) is unknown"):
        load_manifest(written(tmp_path, colour="x" * 50_000))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bits": 99999}, "bits 99999 must be 1 to 32"),
        ({"ratio": 2_000_000}, "ratio 2000000 must be 1 to 64"),
    ],
)
def test_a_sensor_beyond_reason_is_refused(tmp_path, changes, said):
    row = {"name": "X", "bands": ["red"], "bits": 11, "ratio": 4, "gnyq": [0.3], "gnyq_pan": 0.2}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**row, "rgb": [0, 0, 0], "gbnir": [0, 0, 0], **changes}))
    with pytest.raises(ManifestError, match=said):
        load_sensor(tmp_path / "s.yaml")


def test_a_manifest_with_a_name_of_300_letters_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="field name = 'aaa.*at most 200"):
        load_manifest(written(tmp_path, name="a" * 300))


def test_synthetic_scenes_that_do_not_fit_into_memory_are_refused(tmp_path):
    source = {"kind": "synthetic", "scenes": {"train": 1, "val": 1, "test": 1}, "size": 16 * 10**8, "seed": 0}
    dataset = open_dataset(load_manifest(written(tmp_path, source=source, split=None)))
    with pytest.raises(ValueError, match=r"seed_0: .* values take .* GiB, and this machine has .* of memory"):
        dataset.patches("train", "full", 16)


@pytest.fixture
def said(monkeypatch, tmp_path, capsys):
    """Runs the command in an empty folder, in which it leaves nothing; gives the one line that it ends with."""
    monkeypatch.chdir(tmp_path)

    def run(*line: str) -> str:
        assert cli.main([*line]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("clippan: ") and err.count("\n") == 1
        assert [*tmp_path.iterdir()] == []
        return err

    return run


SEEDS = ("-1", "4294967296", "9223372036854775808", "9" * 40)
SCENE = ("--ms", "m.tif", "--pan", "p.tif", "--out", "o.tif")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "line",
    [
        ("run", SYNTHETIC),
        ("audit", SYNTHETIC),
        ("sharpen", *SCENE, "--adapt", "smoke"),
        ("compare", *SCENE),
        ("compare", *SCENE, "--adapt", "smoke"),
    ],
    ids=lambda line: f"{line[0]}{len(line)}",
)
def test_a_seed_that_no_generator_takes_is_refused(said, line, seed):
    assert f"--seed {seed}: a seed is 0 or more, and 4294967295 at most" in said(*line, "--seed", seed)


@pytest.mark.parametrize("seed", SEEDS[1:])
def test_a_seed_of_a_table_that_no_generator_takes_is_refused(said, seed):
    assert f"--seed {seed}: a seed is 0 or more" in said("table", "4", SYNTHETIC, "--seeds", "0", seed)


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        (("sharpen", *SCENE, "--tile", "1000000000"), "--tile 1000000000: give 65536 or less"),
        (("sharpen", *SCENE, "--consistent", "1000000000"), "1000000000 steps of consistency: give 0 to 100"),
        (("table", "4", SYNTHETIC, "--jobs", "1000000"), "--jobs 1000000: give 1000 or less"),
        (("table", "4", SYNTHETIC, "--seeds", *map(str, range(2000))), "--seeds, 2000: give 1000 or less"),
        (("table", "4", SYNTHETIC, "--name", "a" * 300), "(300 characters)' is not the name of a folder"),
        (("audit", SYNTHETIC, "--sample", "1000000000000"), "--sample 1000000000000: give 1000000 or less"),
        (("judge", "nowhere", "--deliveries", "1000000"), "--deliveries 1000000: give 10000 or less"),
        (("judge", "nowhere", "--deliveries", "1"), "--deliveries 1: give 2 or more"),
        (("judge", "nowhere", "--deliveries", "-3"), "--deliveries -3: give 2 or more"),
        (("run", SYNTHETIC, "--name", "a" * 300), "(300 characters)' is not the name of a folder"),
        (("run", SYNTHETIC, "--name", ""), "--name '' is not the name of a folder"),
        (("run", "x" * 5000), "cannot be read (File name too long)"),
        (("run", str(MANIFESTS / "wv2_grip.yaml"), "--data", "x" * 400), "no such file"),
        (("run", str(MANIFESTS / "nbu_qb.yaml"), "--data", "x" * 400), "zero scenes"),
        (("run", str(MANIFESTS / "pancollection_qb.yaml"), "--data", "x" * 400), "none of"),
        (("run", str(MANIFESTS / "landsat8.yaml"), "--data", "x" * 400), "no such file"),
    ],
)
def test_numbers_and_names_beyond_reason_are_refused(said, line, refusal):
    assert refusal in said(*line)


@pytest.mark.parametrize(
    ("assignment", "refusal"),
    [
        ("patch=100000", "patch size 100000 does not fit 96 x 96 LRMS px"),
        ("stage1_batch=1000", "stage1_batch=1000: synthetic_wv3 has 720 training patches at full resolution"),
        ("stage2_batch=721", "stage2_batch=721: synthetic_wv3 has 720 training patches at full resolution"),
        ("pseudo_batch=100000", "pseudo_batch=100000: synthetic_wv3 has 180 training patches at reduced"),
        ("stage2_batch=1000000000", "stage2_batch: Input should be less than or equal to 1000000"),
        (
            "stage1_iterations=1000000000000",
            "stage1_iterations: Input should be less than or equal to 1000000",
        ),
        (
            "stage2_iterations=1000000000000",
            "stage2_iterations: Input should be less than or equal to 1000000",
        ),
        (
            "pseudo_iterations=1000000000000",
            "pseudo_iterations: Input should be less than or equal to 1000000",
        ),
        ("checkpoint_every=1000000000000", "checkpoint_every: Input should be less than or equal to 1000000"),
        ("gate_scenes=1000000", "gate_scenes: Input should be less than or equal to 10000"),
        ("n_seeds=1000000", "n_seeds: Input should be less than or equal to 1000"),
        ("clip_weights=random:" + "9" * 30, "at most 18 digits must follow"),
        ("clip_model=" + "x" * 5000, "unknown CLIP architecture"),
        ("pseudo=" + "x" * 300 + ".safetensors", "cannot be read"),
    ],
)
def test_a_setting_that_no_run_can_have_is_refused_before_anything_runs(said, assignment, refusal):
    assert refusal in said("run", SYNTHETIC, "--device", "cpu", "-p", assignment)


@pytest.mark.parametrize("weights", ["/nowhere/clip.pt", "no_tag"])
@pytest.mark.parametrize("model", ["embedded", "ViT-B-32"])
def test_weights_of_a_clip_that_do_not_exist_are_refused_before_anything_runs(tmp_path, model, weights):
    changes = {"clip_model": model, "clip_weights": weights}
    with pytest.raises(Refusal, match=f"weights='{weights}'"):
        plan_run(SYNTHETIC, device="cpu", runs=tmp_path / "runs", changes=changes)
    assert [*tmp_path.iterdir()] == []


def test_batches_of_a_preset_take_what_there_is(tmp_path):
    made = plan_run(SYNTHETIC, device="cpu", runs=tmp_path, preset="smoke", changes={"stride_full": 96})
    assert made.config.stage1_batch == make_config("smoke").stage1_batch
    with pytest.raises(Refusal, match="stage1_batch=21: synthetic_wv3 has 20 training patches"):
        changes = {"stride_full": 96, "stage1_batch": 21, "most_patches": None}
        plan_run(SYNTHETIC, device="cpu", runs=tmp_path, preset="smoke", changes=changes)
    with pytest.raises(Refusal, match="has 16 training patches .* most_patches=16; .* a larger most_patches"):
        plan_run(SYNTHETIC, device="cpu", runs=tmp_path, preset="smoke", changes={"stage1_batch": 17})


@pytest.mark.parametrize(
    "name", ["a" * 101, "a/b", "..", ".x", "-x", "a b", "a\n", "\0", "{seed}", "ä", "a:b"]
)
def test_a_name_that_some_system_does_not_take_is_refused(name):
    with pytest.raises(Refusal, match="is not the name of a folder"):
        refuse_name(name)
    refuse_name("a" * 100)
    refuse_name("demo_pnn.v2-3")
