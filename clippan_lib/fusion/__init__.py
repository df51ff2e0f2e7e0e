"""The registry of fusion methods: a name, and one signature (lrms, pan) → hrms for all of them.

A new network is one file, one line in `NETWORKS` and one row in the conformance test.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from clippan_lib.fusion.classical import bdsd, bdsd_pc, exp, gsa, mtf_glp_hpm_r
from clippan_lib.fusion.lambda_pnn import LambdaPNN
from clippan_lib.fusion.pnn import PNN
from clippan_lib.sensors import Sensor

Method = Callable[[Tensor, Tensor], Tensor]

NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "pnn": PNN,
    "lambda_pnn": LambdaPNN,
}

CLASSICAL: dict[str, Callable[[Sensor, int], Method]] = {
    "exp": lambda sensor, ratio: partial(exp, ratio=ratio),
    "gsa": lambda sensor, ratio: partial(gsa, ratio=ratio),
    "bdsd": lambda sensor, ratio: partial(bdsd, ratio=ratio, gnyq=sensor.gnyq, gnyq_pan=sensor.gnyq_pan),
    "bdsd_pc": lambda sensor, ratio: partial(
        bdsd_pc, ratio=ratio, gnyq=sensor.gnyq, gnyq_pan=sensor.gnyq_pan
    ),
    "mtf_glp_hpm_r": lambda sensor, ratio: partial(mtf_glp_hpm_r, ratio=ratio, gnyq=sensor.gnyq),
}


def build_network(name: str, bands: int, ratio: int, seed: int = 0) -> nn.Module:
    """A network with untrained weights, which depend on nothing but the arguments.

    Args:
        name: a key of `NETWORKS`.
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
        seed: of the initial weights; torch's own generator is left as it was.
    Raises: ValueError on an unknown name (listing the known ones), bands below 1, or a ratio below 2.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    if bands < 1 or ratio < 2:
        raise ValueError(f"a network needs 1 band or more and a ratio of 2 or more, got {bands} and {ratio}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](bands, ratio)


def get_method(name: str, sensor: Sensor, ratio: int) -> Method:
    """A fusion method bound to a sensor: called with (lrms, pan) alone, it gives hrms.

    Args:
        name: a key of `CLASSICAL`, or of `NETWORKS`, which gives the network with untrained weights.
        sensor: its MTF gains and number of bands.
        ratio: PAN-to-MS scale of the images, which may differ from the sensor's.
    Raises: ValueError on an unknown name, listing the known ones.
    """
    if name in CLASSICAL:
        return CLASSICAL[name](sensor, ratio)
    if name in NETWORKS:
        return build_network(name, sensor.n_bands, ratio)
    raise ValueError(f"unknown fusion method {name!r}; known: {', '.join([*CLASSICAL, *NETWORKS])}")
