"""Our networks give what the public code gives with the same weights."""

import json

import numpy as np
import pytest
import torch

from clippan_lib.fusion.published import PUBLISHED, load_published

# One row per network: whose checkpoint it is, and the cases of ../shared/conformance that hold it.
PUBLIC = {
    "dlpan_pnn": ("PNN_WV3", "PNN_QB"),
    "a_pnn": ("A-PNN-TA-FR_WV3", "A-PNN-TA-FR_GE1", "Z-PNN_WV3", "Z-PNN_GE1"),
    "lambda_pnn": ("LambdaPNN_WV3", "LambdaPNN_WV2", "LambdaPNN_GE1"),
    "dlpan_pannet": ("PanNet_WV3", "PanNet_QB"),
    "z_pannet": ("PanNet-TA-FR_WV3", "PanNet-TA-FR_GE1", "Z-PanNet_WV3", "Z-PanNet_GE1"),
    "fusionnet": ("FusionNet_WV3", "FusionNet_QB"),
    "msdcnn": ("MSDCNN_WV3", "MSDCNN_QB"),
    "drpnn": ("DRPNN_WV3", "DRPNN_QB"),
    "arbrpn": ("ArbRPN_B8", "ArbRPN_B8_24x16", "ArbRPN_B4", "ArbRPN_B4_24x16"),
    "lformer": ("LFormer5_B8", "LFormer5_B8_24x16"),
    "lformer_qb": ("LFormer5qb_B4", "LFormer5qb_B4_24x16"),
    "clippan_lformer": ("LFormer3_CLIPPan_B8", "LFormer3_CLIPPan_B8_24x16"),
    "pan_mamba": ("PanMamba_B8", "PanMamba_B8_24x16", "PanMamba_B4", "PanMamba_B4_24x16"),
    "ship": ("SHIP_B8", "SHIP_B8_24x16", "SHIP_B4", "SHIP_B4_24x16"),
}

# What networks that passed the cases above give with weights from a formula: four pixels and the mean.
STORED = {
    "dlpan_pnn": (-0.010220516590, -0.108212466143, 0.225041187432, 0.169005916094, 0.067569621916),
    "a_pnn": (0.395677694770, 0.723799243445, 0.802879952430, 0.226952262891, 0.564851002597),
    "lambda_pnn": (0.435400320337, 0.811246910285, 0.602091560220, 0.085244824176, 0.491638238681),
    "dlpan_pannet": (0.443863975506, 0.992898751862, 0.585831565775, -0.103790367392, 0.532415414293),
    "z_pannet": (0.279019090779, 0.940294713397, 0.572928802760, 0.067019361731, 0.564634480058),
    "fusionnet": (0.068402240675, -0.438706351366, 1.337099244349, -0.223672092368, 0.529496913888),
    "msdcnn": (0.023689198378, 0.343630839777, 0.211180619488, 0.000000000000, 0.123817871203),
    "drpnn": (-0.105662365382, 0.882352618828, -0.206334261871, -0.166679171614, 0.035775863567),
    "arbrpn": (0.412629153152, 0.893334611835, 0.572155447986, -0.007080914846, 0.488783173837),
    "lformer": (0.536302054508, 0.843344565461, 0.264809825468, -0.220502456009, 0.393754759954),
    "lformer_qb": (0.771984005636, 1.096161803873, 0.966988671770, 0.400550453797, 0.847497820107),
    "clippan_lformer": (0.420100704683, 1.032862339783, 0.794059248934, 0.352097448635, 0.666456962644),
    "pan_mamba": (0.603232973356, 1.256704912345, 0.728527982663, -0.057848703155, 0.526751998124),
    "ship": (0.526090152420, 0.782709871986, 0.728521663643, 0.356050542778, 0.617434030139),
}
PIXELS = ((0, 0, 0, 0), (0, 3, 5, 19), (1, 1, 11, 0), (1, 2, 6, 7))


SENSOR = {4: "QB", 8: "WV3"}


@pytest.mark.parametrize(
    ("name", "case_id"), [(name, case) for name, cases in PUBLIC.items() for case in cases]
)
def test_the_public_weights_give_the_public_codes_output_up_to_the_edge(shared, name, case_id):
    folder = shared / "conformance"
    cases = json.loads((folder / "conformance.json").read_text())["cases"]
    case = next(case for case in cases if case["id"] == case_id)
    data = {key: torch.from_numpy(value) for key, value in np.load(folder / case["data"]).items()}
    sensor = case["sensor"] or SENSOR[case["bands"]]
    network = load_published(name, folder / case["weights"], sensor, as_published=True).eval()
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
        for buffer in network.buffers():  # a permutation and signs, drawn at random
            buffer.copy_(torch.ones_like(buffer) if buffer.ndim == 1 else torch.eye(len(buffer)))
        lrms, pan = 0.5 + waves(2, 4, 3, 5, step=0.37) / 2, 0.5 + waves(2, 1, 12, 20, step=0.53) / 2
        return network(lrms, pan)


def probe(hrms):
    return (*(hrms[pixel].item() for pixel in PIXELS), hrms.mean().item())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_with_weights_from_a_formula_gives_the_stored_numbers(name):
    assert probe(from_formula(name)) == pytest.approx(STORED[name], abs=1e-9)


def test_every_published_form_has_conformance_cases():
    assert PUBLIC.keys() == STORED.keys() == PUBLISHED.keys()
