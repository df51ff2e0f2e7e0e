"""The registry of fusion methods: a name, and one signature (lrms, pan) → hrms for all of them.

A new network is one file, one line in `NETWORKS` and one row in the conformance test; with `reach`, as `as_staged`
reads it, it fuses scenes in tiles without seams. A new classical method is one file and one row of `CLASSICAL`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

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
from clippan_lib.fusion.networks.lms_network import LmsNetwork
from clippan_lib.fusion.networks.msdcnn import MSDCNN
from clippan_lib.fusion.networks.pan_mamba import PanMamba
from clippan_lib.fusion.networks.pannet import PanNet
from clippan_lib.fusion.networks.pnn import PNN
from clippan_lib.fusion.networks.ship import SHIP
from clippan_lib.mtf import Border, upsample
from clippan_lib.sensors import Sensor

Method = Callable[[Tensor, Tensor], Tensor]
Family = Literal[
    "interpolation",
    "component substitution",
    "multiresolution analysis",
    "sparse representation",
    "variational",
]
Gain = Literal["gnyq", "gnyq_pan"]

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


@dataclass(frozen=True)
class ClassicalMethod:
    """One row of `CLASSICAL`.

    Args:
        name: by which it is called here.
        title: as papers write it.
        family: of Vivone et al. 2021 [vivone2021new], with sparse representation apart from the variational methods.
        fuse: (lrms, pan, ratio and gains by name) → hrms, made by `staged`.
        needs: of the sensor, by the names of its fields and of the arguments of `fuse`.
    """

    name: str
    title: str
    family: Family
    fuse: Callable[..., Any]
    needs: tuple[Gain, ...] = ()

    def reach(self, ratio: int) -> int | None:
        """LRMS px of apron that a tile needs on all sides; None if the method looks at its whole image."""
        return self.fuse.reach(ratio)

    def settings(self, sensor: Sensor | None, ratio: int) -> dict[str, Any]:
        """What `fuse` is called with besides the pair.

        Args:
            sensor: may be None if `needs` is empty.
            ratio: PAN-to-MS scale of the images.
        Raises: ValueError if the method needs a sensor and there is none.
        """
        if self.needs and sensor is None:
            raise ValueError(
                f"{self.name} needs the MTF gains of a sensor ({', '.join(self.needs)}); give one, or another method"
            )
        return {"ratio": ratio} | {gain: getattr(sensor, gain) for gain in self.needs}


_CS, _MRA = "component substitution", "multiresolution analysis"
_GNYQ, _BOTH = ("gnyq",), ("gnyq", "gnyq_pan")

# In the order of tables
CLASSICAL: dict[str, ClassicalMethod] = {
    row.name: row
    for row in (
        ClassicalMethod("exp", "EXP", "interpolation", classical.exp),
        ClassicalMethod("brovey", "Brovey", _CS, classical.brovey),
        ClassicalMethod("gihs", "GIHS", _CS, classical.gihs),
        ClassicalMethod("gs", "GS", _CS, classical.gs),
        ClassicalMethod("gsa", "GSA", _CS, classical.gsa),
        ClassicalMethod("bt_h", "BT-H", _CS, classical.bt_h),
        ClassicalMethod("pracs", "PRACS", _CS, classical.pracs),
        ClassicalMethod("bdsd", "BDSD", _CS, classical.bdsd, _BOTH),
        ClassicalMethod("bdsd_pc", "BDSD-PC", _CS, classical.bdsd_pc, _BOTH),
        ClassicalMethod("mtf_glp", "MTF-GLP", _MRA, classical.mtf_glp, _GNYQ),
        ClassicalMethod("mtf_glp_fs", "MTF-GLP-FS", _MRA, classical.mtf_glp_fs, _GNYQ),
        ClassicalMethod("mtf_glp_hpm", "MTF-GLP-HPM", _MRA, classical.mtf_glp_hpm, _GNYQ),
        ClassicalMethod("mtf_glp_hpm_r", "MTF-GLP-HPM-R", _MRA, classical.mtf_glp_hpm_r, _GNYQ),
        ClassicalMethod("awlp", "AWLP", _MRA, classical.awlp),
        ClassicalMethod("fe_hpm", "FE-HPM", _MRA, classical.fe_hpm),
        ClassicalMethod("sr_d", "SR-D", "sparse representation", classical.sr_d, _GNYQ),
        ClassicalMethod("tv", "TV", "variational", classical.tv, _GNYQ),
    )
}


def build_network(name: str, bands: int, ratio: int, seed: int = 0) -> nn.Module:
    """A network with untrained weights, which depend on nothing but the arguments.

    Args:
        name: a key of `NETWORKS`.
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
        seed: of the initial weights; torch's own generator is left as it was.
    Raises: ValueError on an unknown name (listing the known ones), bands below 1, or a ratio below 2.

    >>> pnn = build_network("pnn", bands=8, ratio=4)
    >>> sum(parameter.numel() for parameter in pnn.parameters())
    79880
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    if bands < 1 or ratio < 2:
        raise ValueError(f"a network needs 1 band or more and a ratio of 2 or more, got {bands} and {ratio}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](bands, ratio)


def get_method(name: str, sensor: Sensor, ratio: int, border: Border = "replicate") -> Method:
    """A classical method bound to a sensor: called with (lrms, pan) alone, it gives hrms.

    Args:
        name: a key of `CLASSICAL`.
        sensor: its MTF gains.
        ratio: PAN-to-MS scale of the images, which may differ from the sensor's.
        border: of EXP, as in `mtf.upsample`; "circular" gives what the public toolbox gives.
    Raises: ValueError on a network, which fuses nothing before it is trained, and on an unknown name, listing the
        known ones.

    >>> from clippan_lib.sensors import get_sensor
    >>> gsa = get_method("gsa", get_sensor("WV3"), ratio=4)
    >>> gsa(torch.rand(1, 8, 16, 16), torch.rand(1, 1, 64, 64)).shape
    torch.Size([1, 8, 64, 64])
    """
    if name in NETWORKS:
        raise ValueError(
            f"{name} is a network and has to be trained first: `clippan run MANIFEST --network {name}` does that, "
            "TrainedNetwork.load(FILE).network takes the result, load_published(...) public weights; "
            f"build_network({name!r}, bands, ratio) gives it untrained"
        )
    row = _classical(name)
    return partial(row.fuse, **row.settings(sensor, ratio), border=border)


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
    Raises: ValueError on an unknown name, listing the known ones, and on a method that needs a sensor without one.
    """
    row = _classical(name)
    return StagedMethod(partial(row.fuse.stages, **row.settings(sensor, ratio)), row.reach(ratio))


def _classical(name: str) -> ClassicalMethod:
    if name not in CLASSICAL:
        raise ValueError(f"unknown classical method {name!r}; known: {', '.join(CLASSICAL)}")
    return CLASSICAL[name]


def as_staged(network: nn.Module) -> StagedMethod:
    """A network in stages: it asks for nothing of the scene.

    Args:
        network: in the mode and on the device where it shall run. It may say how far a pixel depends on others,
            as attribute `reach`, and where its windows start, as `align`, as in `StagedMethod`; one without
            `reach` is taken to look at its whole image. An `LmsNetwork` is spared most of the apron.
    """
    reach, align = getattr(network, "reach", None), getattr(network, "align", 1)
    return StagedMethod(partial(_at_once, network), reach, align)


def _at_once(network: nn.Module, lrms: Tensor, pan: Tensor) -> Stages:
    yield from ()
    if not isinstance(network, LmsNetwork):
        return network(lrms, pan)
    # the layers need less of the apron than the interpolation before them
    margin = network.ratio * network.reach - network.pixels
    lms = upsample(lrms, network.ratio, border="replicate")
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    return F.pad(network.fuse(lms[inner], pan[inner]), (margin,) * 4)
