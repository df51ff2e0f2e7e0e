"""SR-D: the pursuit of atoms, the patches, the toolbox's images."""

import numpy as np
import pytest
import torch
from pairs import assert_same, draw, pair
from sklearn.linear_model import orthogonal_mp

from clippan_lib import mtf
from clippan_lib.fusion.classical import sparse
from clippan_lib.fusion.classical.sparse import matching_pursuit, sr_d
from clippan_lib.sensors import get_sensor

GNYQ = (0.35, 0.34, 0.32)


def test_the_pursuit_of_one_band_is_scikit_learns():
    atoms, targets = draw(1, 40, 1, 12), draw(1, 9, 1, 12, seed=1)
    atoms = atoms / atoms.norm(dim=-1, keepdim=True)
    first = (targets.flatten(2) @ atoms.flatten(2).mT).abs().argmax(-1)[0]
    chosen, coefficients = matching_pursuit(atoms, targets, first, 5)
    expected = orthogonal_mp(atoms[0, :, 0].T.numpy(), targets[0, :, 0].T.numpy(), n_nonzero_coefs=5)
    assert_same(torch.zeros(9, 40).double().scatter(1, chosen[0], coefficients[0, :, 0]).T, expected)


def test_longer_atoms_come_first_and_every_band_has_its_own_coefficients():
    # two bands of three values; the target is 2 and 3 times atom 1, plus 1 and 0 times atom 2
    atoms = torch.tensor(
        [[[[1, 1, 1], [1, 1, 1]], [[5, 0, 0], [5, 0, 0]], [[0, 1, 0], [0, 1, 0]]]], dtype=torch.float64
    )
    target = torch.tensor([[[[10, 1, 0], [15, 0, 0]]]], dtype=torch.float64)
    chosen, coefficients = matching_pursuit(atoms, target, torch.tensor([2]), 2)
    assert chosen.tolist() == [[[2, 1]]]
    assert_same(coefficients, [[[[1, 2], [0, 3]]]])


def test_what_the_pursuit_leaves_is_orthogonal_to_the_atoms_it_chose():
    atoms, targets = draw(2, 30, 3, 20), draw(2, 6, 3, 20, seed=1)
    chosen, coefficients = matching_pursuit(atoms, targets, torch.arange(6), 7)
    assert (chosen[..., 0] == torch.arange(6)).all()
    picked = torch.stack([atoms[i][chosen[i]] for i in range(2)])
    left = targets - torch.einsum("bmjck,bmcj->bmck", picked, coefficients)
    assert torch.einsum("bmjck,bmck->bmjc", picked, left).abs().max() < 1e-10


def test_an_atom_that_adds_nothing_leaves_the_others_alone():
    atoms, target = draw(1, 1, 2, 5), draw(1, 1, 2, 5, seed=1)
    repeated = torch.cat([atoms, atoms, 0 * atoms], 1)
    chosen, coefficients = matching_pursuit(repeated, target, torch.tensor([0]), 6)
    own = (atoms * target).sum(-1) / atoms.square().sum(-1)
    assert_same(coefficients[0, 0, :, 0], own[0, 0])
    assert (coefficients[..., 1:] == 0).all()


@pytest.mark.parametrize(("length", "starts"), [(7, [0]), (8, [0, 1]), (10, [0, 3]), (12, [0, 3, 5])])
def test_the_last_patch_ends_with_the_image(length, starts):
    assert sparse._starts(length, 7, 3).tolist() == starts


@pytest.mark.parametrize(("h", "w"), [(7, 7), (7, 9), (10, 14), (11, 13)])
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_patches_that_are_their_own_atoms_give_the_image_back(h, w, ratio):
    high, low = draw(2, 3, ratio * h, ratio * w), draw(2, 3, h, w, seed=1)
    factors = torch.tensor([2.0, -1.0, 0.5]).double().view(3, 1, 1)
    details = sparse._reconstruct(high, low, factors * low, 7, 4, 2)
    assert_same(details, factors * high)


def test_the_details_of_pan_are_given_back_to_bands_that_miss_them():
    """One band that PAN shows sharply: closer to it than its interpolation."""
    sharp = torch.nn.functional.avg_pool2d(draw(1, 1, 68, 68), 5, 1)
    lrms = mtf.degrade(sharp, [0.3], 4)
    fused = sr_d(lrms, sharp, 4, [0.3])
    assert (fused - sharp).norm() < 0.5 * (mtf.upsample(lrms, 4) - sharp).norm()


@pytest.mark.parametrize("unit", [1e-4, 2047.0])
def test_the_unit_does_not_matter(unit):
    lrms, pan = pair()
    assert_same(sr_d(unit * lrms, unit * pan, 4, GNYQ) / unit, sr_d(lrms, pan, 4, GNYQ))


def test_a_constant_pan_leaves_bands_without_detail():
    lrms, pan = pair()
    fused = sr_d(lrms, torch.full_like(pan, 0.4), 4, GNYQ)
    assert (fused - mtf.exp23(lrms, 4)).abs().max() < 0.01 * lrms.abs().max()


@pytest.mark.parametrize(
    "wrong", [{"patch": 11}, {"overlap": 7}, {"overlap": -1}, {"atoms": 0}], ids=lambda x: str(x)
)
def test_patches_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match="must fit into lrms"):
        sr_d(*pair(), 4, GNYQ, **wrong)


def test_an_image_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match=r"patch 7 must fit into lrms \(2, 3, 6, 14\)"):
        sr_d(*pair(h=6), 4, GNYQ)


def test_gains_that_do_not_fit_the_bands_are_refused():
    with pytest.raises(ValueError, match="2 kernels for 3 bands"):
        sr_d(*pair(), 4, GNYQ[:2])


def reference(array):
    """(row, column[, band]) numbers as a float64 batch of one."""
    return torch.from_numpy(np.atleast_3d(array).astype(np.float64).transpose(2, 0, 1))[None]


@pytest.fixture(scope="module", params=["WV2_RR", "WV2_FR"])
def scene(shared, request):
    stored = np.load(shared / "reference" / f"{request.param}.npz")
    pan = stored["pan_lr" if request.param.endswith("RR") else "pan"]
    return *(reference(x) for x in (stored["ms_lr"], pan, stored["exp"])), stored["SR_D"]


def test_the_image_equals_the_toolboxs_given_its_interpolation(scene, monkeypatch):
    lrms, pan, lms, expected = scene
    monkeypatch.setattr(sparse, "upsample", lambda image, ratio, border: lms)
    fused = sr_d(lrms, pan, 4, get_sensor("WV2").gnyq)
    assert ((fused - reference(expected)).abs() <= reference(np.spacing(np.abs(expected)))).all()


@pytest.mark.parametrize("unit", [1, 2047])
def test_the_image_equals_the_toolboxs_in_any_unit(scene, unit):
    lrms, pan, _, expected = scene
    fused = unit * sr_d(lrms / unit, pan / unit, 4, get_sensor("WV2").gnyq, border="circular")
    assert (fused - reference(expected)).abs().max() < 2.5e-4
