"""What the audit says of measured optics: sound ones pass; other gains, a shift, and PAN of another place do not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layouts import manifest, mat_dataset, pair

from clippan_lib.audit import Finding, SplitAudit, audit
from clippan_lib.audit.optics import likeness, sharpness, shift
from clippan_lib.data import load_manifest
from clippan_lib.data.synthetic import render
from clippan_lib.optics import Optics
from clippan_lib.sensors import get_sensor

QB = get_sensor("QB")  # gains 0.34, 0.32, 0.30, 0.22
MANIFESTS = Path(__file__).parents[1] / "data_manifests"
SOUND = Optics(
    gnyq=(0.3, 0.31, 0.32, 0.25),
    interval=((0.25, 0.4), (0.24, 0.36), (0.26, 0.4), (0.2, 0.3)),
    common=0.3,
    shift=(0.6, -0.2),
    shift_interval=((0.45, 0.75), (-0.3, -0.1)),
    r2=0.93,
    curve=((0.03, 0.5), (0.3, 0.93), (0.6, 0.7)),
    reach=4,
)
BAND = "blue 0.30 (0.25 to 0.40; table 0.34)"


def part(**change) -> SplitAudit:
    return SplitAudit("train", "full", QB, optics=replace(SOUND, **change))


def said(finding: Finding | None) -> tuple[str, float | None]:
    assert finding is not None
    assert bool(finding.advice) == (finding.severity in ("warning", "fault"))
    return finding.severity, finding.value


def of(findings: tuple[Finding, ...], check: str) -> Finding:
    [found] = [finding for finding in findings if finding.check == check]
    return found


def test_sound_optics_pass_and_their_numbers_are_said():
    assert said(likeness(part())) == ("ok", 0.93)
    assert "R² 0.93" in likeness(part()).measured and "not good" not in likeness(part()).measured
    assert said(sharpness(part())) == ("ok", 1.0)
    assert BAND in sharpness(part()).measured and "R² 0.93" in sharpness(part()).measured
    # 0.6 rows, but it may be 0.45
    assert said(shift(part())) == ("ok", 0.45)
    assert "+0.60 rows (+0.45 to +0.75), -0.20 columns (-0.30 to -0.10)" in shift(part()).measured


@pytest.mark.parametrize(("r2", "severity"), [(0.31, "ok"), (0.29, "warning"), (0.0, "warning")])
def test_a_pan_that_the_bands_do_not_explain_is_a_warning_that_they_may_not_belong_together(r2, severity):
    found = likeness(part(r2=r2))
    assert said(found) == (severity, r2)
    assert ("may not belong together" in found.advice) == (severity == "warning")
    assert "the fit is not good" in found.measured


@pytest.mark.parametrize(
    ("ends", "beyond", "severity"),
    [
        # the table's 0.34, 0.32, 0.30 and 0.22 over the upper ends, or the lower ends over them; the least counts
        (((0.1, 0.2), (0.1, 0.2), (0.1, 0.199), (0.1, 0.14)), 0.3 / 0.199, "warning"),
        (((0.1, 0.2), (0.1, 0.2), (0.1, 0.202), (0.1, 0.14)), 0.3 / 0.202, "ok"),
        (((0.1, 0.2), (0.1, 0.2), (0.2, 0.4), (0.1, 0.14)), 1.0, "ok"),
        (((0.56, 0.6), (0.52, 0.6), (0.5, 0.6), (0.35, 0.6)), 0.35 / 0.22, "warning"),
    ],
)
def test_gains_of_the_table_beyond_every_interval_by_half_are_a_warning_with_the_remedy(
    ends, beyond, severity
):
    gains = tuple(float(np.sqrt(lower * upper)) for lower, upper in ends)
    found = sharpness(part(gnyq=gains, interval=ends))
    assert said(found) == (severity, pytest.approx(beyond))
    if severity == "warning":
        assert "the table says 0.34, 0.32, 0.30, 0.22" in found.advice and f"{gains[3]:.2f}," in found.advice
        assert "-p gains=measured" in found.advice


def test_of_a_fit_that_is_not_good_no_gain_is_judged():
    found = sharpness(part(r2=0.6, interval=((0.03, 0.05),) * 4))
    assert said(found) == ("not measured", None) and "not good" in found.measured
    assert said(likeness(part(r2=0.6))) == ("ok", 0.6)


@pytest.mark.parametrize(
    ("at", "ends", "off", "severity"),
    [
        ((-0.74, 0.2), ((-0.78, -0.69), (0.1, 0.3)), 0.69, "warning"),
        ((0.1, 1.9), ((0.0, 0.2), (1.8, 2.0)), 1.8, "warning"),
        ((0.0, 0.9), ((-0.1, 0.1), (0.49, 1.3)), 0.49, "ok"),
        ((0.02, -0.01), ((-0.1, 0.1), (-0.1, 0.1)), 0.0, "ok"),
        ((0.1, 119.8), ((0.0, 0.2), (119.0, 120.6)), 119.0, "fault"),
    ],
)
def test_a_shift_that_is_more_than_half_a_pixel_for_certain_is_a_warning_and_half_a_ms_pixel_a_fault(
    at, ends, off, severity
):
    found = shift(part(shift=at, shift_interval=ends))
    assert said(found) == (severity, off)
    if severity != "ok":
        assert f"Move MS by ({at[0]:+.2f}, {at[1]:+.2f}) px of PAN" in found.advice


def test_a_shift_at_the_end_of_what_was_looked_at_says_so_and_none_is_judged_without_likeness():
    far = {"shift": (4.1, 0.0), "shift_interval": ((4.0, 4.2), (-0.1, 0.1))}
    assert shift(part(**far)).measured.endswith("no more than 4 px were looked at: so far or farther")
    assert said(shift(part(**far, r2=0.2))) == ("not measured", None)


def test_a_scene_far_off_is_a_fault_with_the_distance(tmp_path):
    scene = render(3, QB, 512)
    lrms, pan = scene["lrms"][:, 24:], scene["pan"][:, : 4 * (128 - 24)]  # PAN lies 24 LRMS px too far down
    digital = [np.rint(2047 * image.numpy()).astype(np.uint16) for image in (lrms, pan)]
    data = mat_dataset(tmp_path, digital[0].transpose(1, 2, 0), digital[1][0])
    found = of(audit(data.manifest, tmp_path, sample=1).findings, "shift")
    assert found.severity == "fault" and found.value == pytest.approx(96, abs=1)


def test_other_splits_have_no_such_finding():
    other = SplitAudit("test", "full", QB)
    assert [check(other) for check in (likeness, sharpness, shift)] == [None] * 3


def test_a_pair_that_is_too_small_says_why_it_was_not_measured(tmp_path):
    findings = audit(mat_dataset(tmp_path, *pair(24, 64)).manifest, tmp_path).findings
    found = of(findings, "detail of PAN")
    assert said(found) == ("not measured", None) and "give a larger part of the scene" in found.measured
    assert not [finding for finding in findings if finding.check in ("gains", "shift")]


def test_scenes_degraded_with_other_gains_and_moved_are_found_from_their_files(tmp_path):
    soft = replace(QB, gnyq=(0.06,) * 4)
    scene = render(3, soft, 512)
    lrms, pan = scene["lrms"], scene["pan"].roll(1, -1)
    digital = [np.rint(2047 * image.numpy()).astype(np.uint16) for image in (lrms, pan)]
    data = mat_dataset(tmp_path, digital[0].transpose(1, 2, 0), digital[1][0])
    findings = audit(data.manifest, tmp_path, sample=1).findings
    assert of(findings, "detail of PAN").severity == "ok"
    assert of(findings, "gains").severity == "warning" and of(findings, "gains").value > 2
    moved = of(findings, "shift")
    assert moved.severity == "warning" and moved.value == pytest.approx(1, abs=0.1)


def test_synthetic_scenes_have_the_gains_that_their_table_says():
    source = {"kind": "synthetic", "scenes": {"train": 2, "val": 1, "test": 1}, "size": 256, "seed": 3}
    findings = audit(manifest(source), sample=1).findings
    for check in ("detail of PAN", "gains", "shift"):
        assert said(of(findings, check))[0] == "ok"


def test_a_pan_of_another_place_is_noticed(shared):
    folder = shared / "scenes" / "l9_toa_rgb"
    findings = audit(load_manifest(folder / "manifest.yaml"), folder, sample=1).findings
    found = of(findings, "detail of PAN")
    assert found.severity == "warning" and found.value < 0.05
    assert {of(findings, check).severity for check in ("gains", "shift")} == {"not measured"}
    # reflectance times 10000 in 16 bits: digital numbers are of what values were divided by
    assert all(each.measured.endswith("of 10000") for each in findings if each.check == "values")


@pytest.mark.parametrize(
    ("name", "warned"), [("spot6_cropland", {"gains"}), ("phr_urban", {"gains"}), ("qb_fields", set())]
)
def test_providers_that_sharpened_ms_or_pan_are_noticed(shared, name, warned):
    folder = shared / "scenes" / name
    findings = audit(load_manifest(folder / "manifest.yaml"), folder, sample=1).findings
    checks = ("detail of PAN", "gains", "shift")
    assert {check for check in checks if of(findings, check).severity == "warning"} == warned
