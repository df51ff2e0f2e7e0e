"""Our networks give what the public code gives with the same weights."""

import json
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clippan_lib.fusion.checkpoints import PUBLISHED, load_published

# One row per network: whose checkpoint it is, and the cases of ../shared/conformance that hold it.
PUBLIC = {
    "dlpan_pnn": ("PNN_WV3", "PNN_QB"),
    "a_pnn": ("A-PNN-TA-FR_WV3", "A-PNN-TA-FR_GE1", "Z-PNN_WV3", "Z-PNN_GE1"),
    "lambda_pnn": ("LambdaPNN_WV3", "LambdaPNN_WV2", "LambdaPNN_GE1"),
}

# What networks that passed the cases above give with weights from a formula: four pixels and the mean.
STORED = {
    "dlpan_pnn": (-0.010220516590, -0.108212466143, 0.225041187432, 0.169005916094, 0.067569621916),
    "a_pnn": (0.395677694770, 0.723799243445, 0.802879952430, 0.226952262891, 0.564851002597),
    "lambda_pnn": (0.435400320337, 0.811246910285, 0.602091560220, 0.085244824176, 0.491638238681),
}
PIXELS = ((0, 0, 0, 0), (0, 3, 5, 19), (1, 1, 11, 0), (1, 2, 6, 7))


SENSOR = {4: "QB", 8: "WV3"}


def interpolated(data):
    """What the public code took for the MS image at the size of PAN; CLIPPan's LFormer makes its own."""
    if "lms" in data:
        return data["lms"]
    return F.interpolate(data["lrms"], size=data["pan"].shape[-2:], mode="bicubic", align_corners=False)


@pytest.mark.parametrize(
    ("name", "case_id"), [(name, case) for name, cases in PUBLIC.items() for case in cases]
)
def test_the_public_weights_give_the_public_codes_output(shared, monkeypatch, name, case_id):
    folder = shared / "conformance"
    cases = json.loads((folder / "conformance.json").read_text())["cases"]
    case = next(case for case in cases if case["id"] == case_id)
    data = {key: torch.from_numpy(value) for key, value in np.load(folder / case["data"]).items()}
    network = load_published(name, folder / case["weights"], case["sensor"] or SENSOR[case["bands"]]).eval()
    module = sys.modules[type(network).__module__]
    if hasattr(module, "upsample"):  # the others interpolate in a way that is theirs
        monkeypatch.setattr(module, "upsample", lambda lrms, ratio, border: interpolated(data))
    with torch.no_grad():
        hrms = network(data["lrms"], data["pan"])
    assert (hrms - data["output"]).abs().max() <= case["tolerance_atol"]


def waves(*shape, step):
    """A tensor that needs no random generator: sin(step * k) over its flat index k."""
    count = torch.Size(shape).numel()
    return torch.sin(step * torch.arange(count, dtype=torch.float64)).reshape(shape)


def from_formula(name):
    network = PUBLISHED[name].build(4, 4).double()
    with torch.no_grad():
        for i, parameter in enumerate(network.parameters()):
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
            parameter.copy_(waves(*parameter.shape, step=0.7 + 0.1 * i) / fan_in**0.5)
        lrms, pan = 0.5 + waves(2, 4, 3, 5, step=0.37) / 2, 0.5 + waves(2, 1, 12, 20, step=0.53) / 2
        return network(lrms, pan)


def probe(hrms):
    return (*(hrms[pixel].item() for pixel in PIXELS), hrms.mean().item())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_with_weights_from_a_formula_gives_the_stored_numbers(name):
    assert probe(from_formula(name)) == pytest.approx(STORED[name], abs=1e-9)


def test_every_published_form_has_conformance_cases():
    assert PUBLIC.keys() == STORED.keys() == PUBLISHED.keys()
