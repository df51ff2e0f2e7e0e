"""The audit against planted faults: each is found, by its own check, and sound data pass."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import h5_dataset, manifest, mat_dataset, nbu_dataset, pair, save_h5
from rasters import grid, noise
from rasters import save as save_tiff
from torch import Tensor

from clippan_lib.audit import Audit, Finding, audit, offsets
from clippan_lib.audit.measures import (
    GAINS,
    fingerprints,
    fitted_gains,
    orders,
    pan_surface,
    peak,
    rank_correlations,
    reference_offset,
    simulation_errors,
)
from clippan_lib.data import Manifest, load_manifest
from clippan_lib.data.synthetic import render
from clippan_lib.mtf import degrade, filter_image, imresize, mtf_kernel
from clippan_lib.sensors import get_sensor

QB = get_sensor("QB")
MANIFESTS = Path(__file__).parents[1] / "data_manifests"
Patches = list[tuple[Tensor, Tensor, Tensor]]


@pytest.fixture(scope="module")
def scenes() -> list[tuple[Tensor, Tensor]]:
    """Measured MS (1, 4, 128, 128) and PAN of six places, four to train and two to test on."""
    rendered = [render(seed, QB, 512) for seed in (0, 1, 2, 3, 100, 101)]
    return [(scene["lrms"][None], scene["pan"][None]) for scene in rendered]


def patches(
    ms: Tensor, pan: Tensor, phase: tuple[int, int] = (2, 2), gnyq=QB.gnyq, roll=(0, 0), order=(0, 1, 2, 3)
) -> Patches:
    """Reduced resolution in PanCollection's sizes: reference 64, LRMS 16, PAN 64; four of each scene."""
    ms, pan = ms[:, list(order)], imresize(pan, ms.shape[-2:]).roll(roll, (-2, -1))
    lrms = filter_image(ms, mtf_kernel(gnyq, 4))[..., phase[0] :: 4, phase[1] :: 4]
    images = (ms, 4), (lrms, 1), (pan, 4)
    corners = [(i, j) for i in (0, 16) for j in (0, 16)]
    return [
        tuple(image[0, :, k * i : k * (i + 16), k * j : k * (j + 16)] for image, k in images)
        for i, j in corners
    ]


def save(path: Path, cut: Patches, scale: float = 2047.0) -> None:
    gt, ms, pan = (scale * np.stack([p[i].double().numpy() for p in cut]) for i in range(3))
    save_h5(path, gt=gt, ms=ms, pan=pan, lms=None)


def audited(folder: Path, train: Patches, test: Patches | None = None, sensor="QB") -> Audit:
    save(folder / "train_reduced.h5", train)
    if test is not None:
        save(folder / "test_reduced.h5", test)
    return audit(h5_dataset(folder, sensor).manifest, folder)


def of(outcome: Audit, check: str, split: str = "train") -> Finding:
    [found] = [f for f in outcome.findings if f.check == check and f.split == split]
    return found


def alarms(outcome: Audit) -> dict[str, str]:
    return {f"{f.check} {f.split}": f.severity for f in outcome.findings if f.severity != "ok"}


@pytest.fixture(scope="module")
def train(scenes) -> Patches:
    return [patch for scene in scenes[:4] for patch in patches(*scene)]


@pytest.fixture(scope="module")
def test(scenes) -> Patches:
    return [patch for scene in scenes[4:] for patch in patches(*scene)]


def test_sound_data_pass_and_the_findings_say_how_much_was_looked_at(tmp_path, train, test):
    outcome = audited(tmp_path, train, test)
    assert outcome.passed and alarms(outcome) == {}
    assert of(outcome, "readable").measured == "16 of 16 windows of 16 LRMS px read"
    assert of(outcome, "phase").measured == "row and column (2, 2) in 100% of 16 windows"
    assert of(outcome, "leakage", "train, test").measured.startswith("0 of 8 windows of test")
    checks = {finding.check for finding in outcome.findings}
    assert checks == {
        "readable", "blank scenes", "values", "phase", "simulation", "registration", "band order", "leakage"
    }  # fmt: skip


@pytest.mark.parametrize(("sensor", "size"), [("WV3", 192), ("L8", 128)])
def test_synthetic_scenes_pass(sensor, size):
    source = {"kind": "synthetic", "scenes": {"train": 1, "val": 1, "test": 1}, "size": size, "seed": 3}
    outcome = audit(manifest(source, sensor))
    assert alarms(outcome) == {}
    assert {(p.split, p.resolution) for p in outcome.parts} == {
        (split, resolution) for split in ("train", "val", "test") for resolution in ("full", "reduced")
    }


@pytest.mark.parametrize(
    ("name", "offset", "seen"),
    [
        ("wv2_grip", (-0.77, -0.38), {"shift train": "warning"}),  # more than half a px, less than one
        ("ikonos_grip", (0.0, -0.17), {}),
    ],
)
def test_the_real_scenes_pass_and_their_offset_is_measured(shared, name, offset, seen):
    outcome = audit(load_manifest(MANIFESTS / f"{name}.yaml"), shared / "data")
    assert outcome.passed and alarms(outcome) == seen
    [part] = [p for p in outcome.parts if (p.split, p.resolution) == ("train", "full")]
    assert offsets(part).median(0).values.tolist() == pytest.approx(offset, abs=0.05)


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("column", range(4))
def test_every_phase_is_found_exactly(scenes, row, column):
    gt, lrms, _ = (image[None] for image in patches(*scenes[0], phase=(row, column))[0])
    assert reference_offset(lrms, gt, QB) == (row - 2, column - 2)


def test_the_phase_that_noise_hides_is_the_conventional_one(scenes):
    gt = scenes[0][0][..., :64, :64]
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    assert reference_offset(noise, gt, QB) == (0, 0)
    assert reference_offset(torch.full((1, 4, 16, 16), 0.5), gt, QB) is None


def test_the_mixed_phases_of_quickbird_are_found_with_their_shares(tmp_path, scenes):
    phases = ((1, 2), (2, 1), (2, 2), (1, 2))
    mixed = [p for scene, phase in zip(scenes[:4], phases, strict=True) for p in patches(*scene, phase)]
    outcome = audited(tmp_path, mixed)
    finding = of(outcome, "phase")
    assert not outcome.passed and (finding.severity, finding.value) == ("fault", 0.75)
    assert "(1, 2) in 50%, (2, 1) in 25%, (2, 2) in 25% of 16 windows" in finding.measured
    assert "mtf.degrade" in finding.advice


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.7), (-2.5, 1.3), (5.0, -6.2)])
def test_a_shift_of_pan_is_measured_to_a_tenth_of_a_pixel(scenes, shift):
    lrms, pan = scenes[0][0][..., :64, :64], scenes[0][1]
    rows, columns = (torch.fft.fftfreq(512).reshape(shape) for shape in ((-1, 1), (1, -1)))
    turn = torch.exp(-2j * torch.pi * (rows * shift[0] + columns * shift[1]))
    moved = torch.fft.ifft2(torch.fft.fft2(pan) * turn).real[..., :256, :256]
    assert peak(pan_surface(lrms, moved, QB, 12)) == pytest.approx(shift, abs=0.1)


def test_the_peak_is_that_of_a_paraboloid_whose_ridge_slants():
    rows, columns = torch.meshgrid(*[torch.arange(-3.0, 4).double()] * 2, indexing="ij")
    y, x = rows - 0.75, columns + 1.25
    assert peak(1 - 0.02 * y.square() - 0.05 * x.square() + 0.03 * x * y) == pytest.approx((0.75, -1.25))
    assert peak(rows + columns) == (3, 3)


@pytest.mark.parametrize(
    ("roll", "severity"), [((1, 0), "warning"), ((0, -2), "warning"), ((0, 2), "fault"), ((3, -3), "fault")]
)
def test_pan_that_is_shifted_is_found(tmp_path, scenes, roll, severity):
    outcome = audited(tmp_path, [p for scene in scenes[:4] for p in patches(*scene, roll=roll)])
    assert alarms(outcome) == {"registration train": severity}
    found = offsets(outcome.parts[0]).median(0).values
    # imresize centres PAN on 4k + 1.5, decimation MS on 4k + 2: an eighth of a reduced pixel apart
    assert found.tolist() == pytest.approx([side + 0.125 for side in roll], abs=0.06)


def test_a_shifted_full_resolution_pair_is_found(tmp_path, scenes):
    ms, pan = scenes[0]
    digital = [np.rint(2047 * image[0].numpy()) for image in (ms, pan.roll((0, 3), (-2, -1)))]
    outcome = audit(mat_dataset(tmp_path, digital[0].transpose(1, 2, 0), digital[1][0]).manifest, tmp_path)
    found = [f for f in outcome.findings if f.check == "registration" and f.resolution == "full"]
    assert [f.severity for f in found] == ["fault"] * 3
    assert found[0].value == pytest.approx(3, abs=0.1)


def test_pan_of_other_ground_is_found(tmp_path, train):
    wrong = [(gt, lrms, train[(i + 4) % 16][2]) for i, (gt, lrms, _) in enumerate(train)]
    finding = of(audited(tmp_path, wrong), "registration")
    assert finding.severity == "fault" and "how the files are paired" in finding.advice


def test_windows_that_do_not_agree_are_a_warning(tmp_path, scenes):
    moved = patches(*scenes[0], roll=(2, 0)) + [p for scene in scenes[1:4] for p in patches(*scene)]
    finding = of(audited(tmp_path, moved), "registration")
    assert (finding.severity, finding.value) == ("warning", 0.25)


def test_a_patch_that_is_in_two_splits_is_found(tmp_path, train, test):
    outcome = audited(tmp_path, train, [*test, train[9]])
    finding = of(outcome, "leakage", "train, test")
    assert (finding.severity, finding.value) == ("fault", 1)
    assert "test_reduced_8" in finding.measured and "train_reduced_9" in finding.measured
    leak = outcome.leaks[0]
    assert leak.second == "test reduced test_reduced_8, window 8"
    assert torch.equal(leak.first_image, leak.second_image)


@pytest.mark.parametrize("corner", [(32, 3), (29, 0), (1, 33)])
def test_a_patch_that_overlaps_another_splits_by_half_is_found_at_any_shift(tmp_path, scenes, test, corner):
    ms, pan = scenes[0]
    only = [patches(ms, pan)[0]]
    moved = patches(
        *(image.roll([-scale * c for c in corner], (-2, -1)) for image, scale in ((ms, 1), (pan, 4)))
    )
    outcome = audited(tmp_path, only, [*test, moved[0]])
    assert alarms(outcome) == {"leakage train, test": "fault"}
    assert of(outcome, "leakage", "train, test").value == 1
    shared = (64 - corner[0]) * (64 - corner[1])
    assert outcome.leaks[0].pixels == pytest.approx(shared, rel=0.6)


def test_ground_shared_by_different_resolutions_is_found(tmp_path, scenes, train):
    ms, pan = (np.rint(2047 * image.double().numpy()) for image in scenes[1])
    save_h5(tmp_path / "test_full.h5", full=True, ms=ms, pan=pan, lms=None)
    finding = of(
        audited(tmp_path, [(p[0].mul(2047).round() / 2047, *p[1:]) for p in train]), "leakage", "train, test"
    )
    assert finding.severity == "fault" and "train_reduced_" in finding.measured


def test_fingerprints_follow_the_pixels_and_flat_ground_has_none():
    image = torch.rand(4, 96, 96, generator=torch.Generator().manual_seed(0))
    whole, part = (set(fingerprints(i).tolist()) for i in (image, image[:, 13:77, 5:69]))
    assert part < whole
    assert len(whole) == pytest.approx(89**2 / 64, rel=0.3)
    changed = image.clone()
    changed[2] += 1e-6
    assert not whole & set(fingerprints(changed).tolist())
    assert fingerprints(torch.full((4, 64, 64), 0.3)).size == 0
    assert fingerprints(image[:, :7]).size == 0


@pytest.mark.parametrize(
    ("change", "severity", "said"),
    [
        (lambda image: image / 8.1, "warning", "8 bits"),
        (lambda image: image / 2047, "fault", "max_value: 1.0"),
        (lambda image: (2 * image).clamp(max=1), "warning", "saturated"),
        (lambda image: image * (image > 0.1), "warning", "NoData"),
    ],
)
def test_values_that_were_changed_are_found(tmp_path, train, change, severity, said):
    finding = of(audited(tmp_path, [tuple(change(image) for image in patch) for patch in train]), "values")
    assert finding.severity == severity and said in finding.advice


def test_a_constant_band_is_found(tmp_path, train):
    lost = [(gt, lrms * torch.tensor([1, 1, 0, 1.0])[:, None, None], pan) for gt, lrms, pan in train]
    outcome = audited(tmp_path, lost)
    finding = of(outcome, "values")
    assert finding.severity == "fault" and "red" in finding.advice
    assert alarms(outcome)["band order train"] == "not measured"


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "NaN or infinite"), (-1.0, "negative"), (4095.0, "above")]
)
def test_a_value_that_cannot_be_is_a_fault_and_the_rest_is_still_measured(tmp_path, train, value, said):
    broken = [tuple(image.clone() for image in patch) for patch in train]
    broken[7][1][2, 3, 4] = value / 2047
    outcome = audited(tmp_path, broken)
    assert alarms(outcome) == {"readable train": "fault"}
    finding = of(outcome, "readable")
    assert finding.value == 1 and finding.measured.startswith("15 of 16 windows")
    assert said in finding.measured and "scenes 7..7" in finding.measured
    assert "of 15 windows" in of(outcome, "phase").measured


@pytest.mark.parametrize("image", [0, 1, 2])
def test_scenes_of_zeros_at_the_end_are_a_truncated_download(tmp_path, train, image):
    for patch in (cut := [list(patch) for patch in train])[-5:]:
        patch[image] = torch.zeros_like(patch[image])
    finding = of(audited(tmp_path, [tuple(patch) for patch in cut]), "blank scenes")
    assert (finding.severity, finding.value) == ("fault", 5)
    assert finding.measured.endswith("the first is train_reduced_11; they are the last ones")


def test_a_truncated_hdf5_file_is_a_fault_and_the_others_are_measured(tmp_path, train, test):
    save(tmp_path / "train_reduced.h5", train)
    save(tmp_path / "test_reduced.h5", test)
    path = tmp_path / "train_reduced.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    outcome = audit(h5_dataset(tmp_path).manifest, tmp_path)
    assert alarms(outcome) == {"readable train": "fault"}
    assert "truncated" in of(outcome, "readable").measured
    assert of(outcome, "phase", "test").severity == "ok"


def test_a_dataset_that_cannot_be_opened_is_one_fault(tmp_path):
    dataset = mat_dataset(tmp_path, *pair())
    path = tmp_path / "scene.mat"
    path.write_bytes(path.read_bytes()[:2000])
    outcome = audit(dataset.manifest, tmp_path)
    [finding] = outcome.findings
    assert not outcome.passed and finding.check == "readable"
    assert "scene.mat" in finding.measured and "get it again" in finding.measured


def test_one_damaged_file_of_a_folder_is_a_fault(tmp_path):
    dataset = nbu_dataset(tmp_path, 4, 16)
    name = dataset.scenes("train", "full")[1].name
    path = tmp_path / "MS" / f"{name}.mat"
    path.write_bytes(path.read_bytes()[:500])
    faults = [f for f in audit(dataset.manifest, tmp_path).findings if f.check == "readable" and f.value]
    assert [(f.split, f.resolution) for f in faults] == [("train", "full"), ("train", "reduced")]
    assert all(f.measured.startswith("1 of 2") and path.name in f.measured for f in faults)


@pytest.mark.parametrize(
    ("order", "looks"),
    [
        ((3, 2, 1, 0), "reversed"),
        ((3, 0, 1, 2), "near infrared first"),
        ((2, 1, 0, 3), "red and blue exchanged"),
    ],
)
def test_another_order_of_the_bands_is_found_and_named(tmp_path, scenes, order, looks):
    gnyq = tuple(QB.gnyq[band] for band in order)
    stored = [p for scene in scenes[:4] for p in patches(*scene, gnyq=gnyq, order=order)]
    finding = of(audited(tmp_path, stored), "band order")
    assert finding.severity == "warning" and f"the bands look {looks}" in finding.advice


def test_haze_ranks_the_bands_by_wavelength():
    falling = np.array([0.8, 0.6, 0.5, 0.2])
    # ranks 4 3 2 1 of the ratios against 1 2 3 4, 4 3 2 1, 4 1 2 3 and 3 2 1 4: 1 - 6 sum d^2 / 60
    assert rank_correlations(falling, QB) == pytest.approx([-1, 1, 0.2, 1 - 6 * 12 / 60])
    assert orders(QB)["near infrared first"] == [3, 0, 1, 2]
    assert orders(QB)["red and blue exchanged"] == [2, 1, 0, 3]


def test_bands_of_unknown_wavelength_are_not_ordered(tmp_path, train):
    sensor = {"name": "mine", "bands": ["a", "b", "c", "d"], "bits": 11, "ratio": 4, "gnyq": list(QB.gnyq)}
    sensor |= {"gnyq_pan": 0.15, "rgb": [2, 1, 0], "gbnir": [1, 0, 3]}
    source = {"kind": "pancollection", "files": {"train_reduced": "train_reduced.h5"}}
    save(tmp_path / "train_reduced.h5", train)
    content = manifest(source).model_dump(mode="json") | {"sensor": sensor}
    outcome = audit(Manifest.model_validate_json(json.dumps(content)), tmp_path)
    assert alarms(outcome) == {"band order train": "not measured"}


@pytest.mark.parametrize("gain", [0.2, 0.4])
def test_another_gain_than_the_sensors_is_found_and_measured(tmp_path, scenes, gain):
    made = [p for scene in scenes[:4] for p in patches(*scene, gnyq=(gain,) * 4)]
    outcome = audited(tmp_path, made)
    assert alarms(outcome) == {"simulation train": "warning"}
    [part] = outcome.parts
    assert fitted_gains(part.errors)[0].tolist() == pytest.approx([gain] * 4, abs=0.015)


def test_bicubic_reduction_leaves_more_over_than_any_gain(tmp_path, train):
    finding = of(
        audited(tmp_path, [(gt, imresize(gt[None], (16, 16))[0], pan) for gt, _, pan in train]), "simulation"
    )
    assert finding.severity == "warning" and "% of LRMS left over" in finding.measured


def test_the_fitted_gain_is_the_vertex_of_a_parabola():
    errors = torch.tensor(
        [[3 + 100 * (gain - best) ** 2 for best in (0.13, 0.3, 0.46)] for gain in GAINS]
    ).double()
    gains, least = fitted_gains(errors)
    assert gains.tolist() == pytest.approx([0.13, 0.3, 0.46])
    assert least.tolist() == pytest.approx([3, 3, 3])


def test_a_lower_gain_is_what_the_errors_are_measured_with(scenes):
    gt = scenes[0][0]
    errors, energy = simulation_errors(degrade(gt, [0.3] * 4, 4), gt, 4, (0, 0))
    assert (errors[2] < 1e-6 * energy).all() and (errors[[0, 4]] > 1e-3 * energy).all()


def test_windows_too_small_for_offsets_say_so(tmp_path):
    save_h5(tmp_path / "train_reduced.h5", side=8)
    outcome = audit(h5_dataset(tmp_path).manifest, tmp_path)
    for check in ("phase", "registration"):
        finding = of(outcome, check)
        assert finding.severity == "not measured" and "8 LRMS px" in finding.measured


def test_the_sample_is_bounded_and_the_same_for_a_seed(tmp_path, train, monkeypatch):
    save(tmp_path / "train_reduced.h5", train)
    file, seen = h5_dataset(tmp_path).manifest, []
    first, again, other = (audit(file, tmp_path, sample=5, seed=seed) for seed in (0, 0, 1))
    assert first.parts[0].detailed == 5 and first.parts[0].looked == 16
    chosen = [[int(b.index) for b in outcome.parts[0].examples] for outcome in (first, again, other)]
    assert chosen[0] == chosen[1] != chosen[2]
    monkeypatch.setattr("clippan_lib.audit.survey.SCAN", 10)
    scanned = audit(file, tmp_path, progress=lambda *step: seen.append(step))
    assert of(scanned, "readable").measured.startswith("10 of 16 windows")
    assert seen[-1] == ("train reduced", 10, 10, {})
    with pytest.raises(ValueError, match="sample 0 must be 1 or more"):
        audit(file, tmp_path, sample=0)


def test_a_part_without_a_whole_square_of_data_is_a_warning_with_the_remedy(tmp_path):
    ms, pan = noise(4, 64, 180), noise(1, 256, 720, seed=1)
    ms[:, 30:, 120:], ms[:, ::25, 160:] = 0, 0  # a notch, and lines through the test part
    save_tiff(tmp_path / "ms.tif", ms, grid(4), nodata=0)
    save_tiff(tmp_path / "pan.tif", pan, grid())
    source = {"kind": "geotiff", "ms": "ms.tif", "pan": "pan.tif"}
    outcome = audit(manifest(source, split={"train": 0.7, "val": 0.0, "test": 0.3}), tmp_path)
    found = {(one.split, one.resolution): one for one in outcome.findings if one.check == "readable"}
    assert found["train", "full"].severity == found["train", "reduced"].severity == "ok"
    assert found["test", "full"].severity == found["test", "reduced"].severity == "warning"
    said = found["test", "full"]
    assert "mine_test: no window of 32 x 32 LRMS px (full resolution) is free of NoData" in said.measured
    assert "Nothing is wrong with the files" in said.advice and "other shares" in said.advice


def test_a_warning_does_not_fail_an_audit_and_a_fault_does():
    warning = Finding("values", "train", "full", "warning", "m", 0.1, "l")
    file = manifest({"kind": "synthetic", "scenes": {"train": 1, "val": 1, "test": 1}, "size": 64, "seed": 0})
    assert Audit(file, (warning,)).passed
    assert not Audit(file, (warning, replace(warning, severity="fault"))).passed
