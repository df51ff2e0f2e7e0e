"""Scores against LRMS of what the sensor would see of a fused image, and all scores of one pair at once."""

import pytest
import torch

from clippan_lib.errors import DataError
from clippan_lib.metrics import BETTER, Judge, full_scores
from clippan_lib.metrics.reference import ergas, q2n, sam
from clippan_lib.metrics.reprojection import (
    at_phase,
    phases,
    r_q2n,
    reproject,
    reprojection_map,
)
from clippan_lib.metrics.spatial import d_rho, d_s_f, d_s_r
from clippan_lib.mtf import degrade, filter_image, mtf_kernel
from clippan_lib.sensors import get_sensor

QB = get_sensor("QB")


def image(seed: int, c: int = 4, h: int = 128, w: int = 160, b: int = 2) -> torch.Tensor:
    return torch.rand(b, c, h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_each_bands_own_phase_is_found():
    pan, expected = image(0, c=1), torch.tensor([[0, 5, 10, 15], [10, 10, 3, 12]])
    seen = filter_image(pan.expand(-1, 4, -1, -1), mtf_kernel((0.3,) * 4, 4))
    lrms = at_phase(seen, 4, expected)
    assert torch.equal(lrms[0, 1], seen[0, 1, 1::4, 1::4])
    assert torch.equal(lrms[1, 2], seen[1, 2, 0::4, 3::4])
    assert torch.equal(phases(0.2 + 0.5 * lrms, pan, (0.3,) * 4, 4), expected)


def test_on_the_usual_phase_reprojection_is_degradation():
    hrms = image(1)
    usual = torch.full((2, 4), 4 * 2 + 2)
    torch.testing.assert_close(reproject(hrms, QB.gnyq, 4, usual), degrade(hrms, QB.gnyq, 4))


def test_an_image_that_gives_lrms_back_has_the_best_scores_and_another_has_the_scores_of_its_own():
    hrms = image(2)
    lrms = degrade(hrms, QB.gnyq, 4)
    torch.testing.assert_close(r_q2n(lrms, lrms), torch.ones(2, dtype=torch.float64))
    other = lrms + 0.1 * image(3, h=32, w=40)
    torch.testing.assert_close(r_q2n(other, lrms, 2047), q2n(other, lrms, dn_max=2047))
    assert (r_q2n(other, lrms) < 1).all()
    assert torch.equal(reprojection_map(other, lrms), (other - lrms).abs().mean(1, keepdim=True))
    with pytest.raises(ValueError, match="must be of one shape"):
        reprojection_map(other[:, :2], lrms)


def test_the_block_of_a_small_image_is_the_image():
    lrms = image(4, h=12, w=16)
    torch.testing.assert_close(r_q2n(lrms + 0.1, lrms), q2n(lrms + 0.1, lrms, block=12))


def test_a_judge_gives_each_score_of_each_image():
    lrms, pan = image(5, h=32, w=40), image(6, c=1)
    judge = Judge(lrms, pan, QB, 4)
    for hrms in (image(7), image(8)):
        scores = judge.scores(hrms)
        assert set(scores) < set(BETTER)
        assert scores.keys() == full_scores(hrms, lrms, pan, QB, 4).keys()
        where = phases(lrms, pan, QB.gnyq, 4)
        expected = {
            "D_rho": d_rho(hrms, pan, 4),
            "D_s_R": d_s_r(hrms, pan),
            "D_s_F": d_s_f(hrms, lrms, pan, QB.gnyq, QB.gnyq_pan, 4),
            "R_Q2n": r_q2n(reproject(hrms, QB.gnyq, 4, where), lrms, 2047),
            "R_SAM": sam(reproject(hrms, QB.gnyq, 4, where), lrms),
            "R_ERGAS": ergas(reproject(hrms, QB.gnyq, 4, where), lrms, 4),
            "RQNR": (1 - scores["D_lambda_K"]) * (1 - scores["D_s_R"]),
        }
        for name, value in expected.items():
            torch.testing.assert_close(scores[name], value, msg=name)
        some = judge.scores(hrms, ["HQNR", "D_s_F"])
        assert {*some} == {"HQNR", "D_s_F"} and all(torch.equal(some[name], scores[name]) for name in some)


def test_a_judge_refuses_what_does_not_fit():
    lrms, pan = image(9, h=16, w=16), image(10, c=1, h=64, w=64)
    with pytest.raises(ValueError, match="lrms has 4 bands and sensor WV3 8"):
        Judge(lrms, pan, get_sensor("WV3"), 4)
    with pytest.raises(ValueError, match=r"lms \(2, 4, 64, 64\) and hrms \(2, 3, 64, 64\)"):
        Judge(lrms, pan, QB, 4).scores(image(11, c=3, h=64, w=64))
    with pytest.raises(ValueError, match="pan has 1 values that are not finite"):
        Judge(lrms, pan.index_put((torch.tensor(0),) * 4, torch.tensor(torch.nan).double()), QB, 4)
    with pytest.raises(ValueError, match="crop the image to"):
        Judge(lrms[..., :12], pan[..., :48], QB, 4)


def test_digital_numbers_are_refused_by_a_judge_and_by_r_q2n():
    lrms, pan, hrms = image(9, h=16, w=16), image(10, c=1, h=64, w=64), image(11, h=64, w=64)
    judge = Judge(lrms, pan, QB, 4)
    with pytest.raises(DataError, match="lrms has values as large as 2"):
        Judge(255 * lrms, pan, QB, 4)
    with pytest.raises(DataError, match="pan has values as large as 2"):
        Judge(lrms, 255 * pan, QB, 4)
    with pytest.raises(
        DataError, match="hrms has values as large as 2.*divide by the sensor's largest digital number"
    ):
        judge.scores(255 * hrms)
    with pytest.raises(DataError, match="lrms has values as large as 2"):
        r_q2n(255 * lrms, 255 * lrms, 2047)
    assert judge.scores(hrms, ["D_s"])["D_s"].isfinite().all()
