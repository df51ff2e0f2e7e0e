"""The registry of fusion methods: a name, and one signature (lrms, pan) → hrms for all of them.

A new network is one file, one line in `NETWORKS` and one row in the conformance test; with `reach`, as `as_staged`
reads it, it fuses scenes in tiles without seams.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clippan_lib.fusion import classical
from clippan_lib.fusion.classical.stages import Stages
from clippan_lib.fusion.networks.arbrpn import ArbRPN
from clippan_lib.fusion.networks.drpnn import DRPNN
from clippan_lib.fusion.networks.fusionnet import FusionNet
from clippan_lib.fusion.networks.lambda_pnn import LambdaPNN
from clippan_lib.fusion.networks.lformer import LFormer
from clippan_lib.fusion.networks.msdcnn import MSDCNN
from clippan_lib.fusion.networks.pan_mamba import PanMamba
from clippan_lib.fusion.networks.pannet import PanNet
from clippan_lib.fusion.networks.pnn import PNN
from clippan_lib.fusion.networks.ship import SHIP
from clippan_lib.mtf import upsample
from clippan_lib.sensors import Sensor

Method = Callable[[Tensor, Tensor], Tensor]

NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "pnn": PNN,
    "lambda_pnn": LambdaPNN,
    "pannet": PanNet,
    "fusionnet": FusionNet,
    "msdcnn": MSDCNN,
    "drpnn": DRPNN,
    "arbrpn": ArbRPN,
    "lformer": LFormer,
    "pan_mamba": PanMamba,
    "ship": SHIP,
}

Bind = Callable[[Sensor | None, int], Method]


def _free(method: Callable[..., Tensor]) -> Bind:
    return lambda sensor, ratio: partial(method, ratio=ratio)


def _with_gains(method: Callable[..., Tensor]) -> Bind:
    return lambda sensor, ratio: partial(method, ratio=ratio, gnyq=sensor.gnyq)


def _with_both_gains(method: Callable[..., Tensor]) -> Bind:
    return lambda sensor, ratio: partial(method, ratio=ratio, gnyq=sensor.gnyq, gnyq_pan=sensor.gnyq_pan)


# In the order of tables: interpolation, component substitution, multiresolution analysis, variational.
CLASSICAL: dict[str, Bind] = {
    "exp": _free(classical.exp),
    "brovey": _free(classical.brovey),
    "gihs": _free(classical.gihs),
    "gs": _free(classical.gs),
    "gsa": _free(classical.gsa),
    "bt_h": _free(classical.bt_h),
    "pracs": _free(classical.pracs),
    "bdsd": _with_both_gains(classical.bdsd),
    "bdsd_pc": _with_both_gains(classical.bdsd_pc),
    "mtf_glp": _with_gains(classical.mtf_glp),
    "mtf_glp_fs": _with_gains(classical.mtf_glp_fs),
    "mtf_glp_hpm": _with_gains(classical.mtf_glp_hpm),
    "mtf_glp_hpm_r": _with_gains(classical.mtf_glp_hpm_r),
    "awlp": _free(classical.awlp),
    "fe_hpm": _free(classical.fe_hpm),
    "sr_d": _with_gains(classical.sr_d),
    "tv": _with_gains(classical.tv),
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


@dataclass(frozen=True)
class StagedMethod:
    """A method bound to a sensor, for scenes that are fused tile by tile; picklable.

    Args:
        stages: (lrms, pan) of a tile → the generator that asks for what it needs of the whole scene.
        reach: LRMS px of apron that a tile needs on all sides; None if the method looks at its whole image, so
            that each tile is an image of its own.
        align: LRMS px; a tile, apron included, must start at a multiple of it.
    """

    stages: Callable[[Tensor, Tensor], Stages]
    reach: int | None
    align: int = 1


def staged_method(name: str, sensor: Sensor | None, ratio: int) -> StagedMethod:
    """A classical method as `get_method` binds it, in stages.

    Args:
        name: a key of `CLASSICAL`.
        sensor: its MTF gains; None for a method that uses none.
        ratio: PAN-to-MS scale of the images, which may differ from the sensor's.
    Raises: ValueError on an unknown name, listing the known ones.
    """
    if name not in CLASSICAL:
        raise ValueError(f"unknown classical method {name!r}; known: {', '.join(CLASSICAL)}")
    bound = CLASSICAL[name](sensor, ratio)
    return StagedMethod(partial(bound.func.stages, **bound.keywords), bound.func.reach(ratio))


def as_staged(network: nn.Module) -> StagedMethod:
    """A network in stages: it asks for nothing of the scene.

    Args:
        network: in the mode and on the device where it shall run. It may say how far a pixel depends on others,
            as attribute `reach`, and where its windows start, as `align`, as in `StagedMethod`; one without
            `reach` is taken to look at its whole image. One with `fuse(lms, pan)`, which looks `pixels` PAN
            pixels far, is spared most of the apron.
    """
    reach, align = getattr(network, "reach", None), getattr(network, "align", 1)
    return StagedMethod(partial(_at_once, network), reach, align)


def _at_once(network: nn.Module, lrms: Tensor, pan: Tensor) -> Stages:
    yield from ()
    if not hasattr(network, "fuse"):
        return network(lrms, pan)
    # the layers need less of the apron than the interpolation before them
    margin = network.ratio * network.reach - network.pixels
    lms = upsample(lrms, network.ratio, border="replicate")
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    return F.pad(network.fuse(lms[inner], pan[inner]), (margin,) * 4)
