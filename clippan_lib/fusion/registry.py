"""The registry of fusion methods: a name, and one signature (lrms, pan) → hrms for all of them.

A new network is one file, one line in `NETWORKS` and one row in the conformance test; with `reach`, as
`tiled.as_staged` reads it, it fuses scenes in tiles without seams. A new classical method is one file and one row
of `CLASSICAL`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import as_file, files
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from clippan_lib.files import read_tensors
from clippan_lib.fusion import classical
from clippan_lib.fusion.consistency import MOST_STEPS, Consistent, consistent, consistent_with_both
from clippan_lib.fusion.networks.arbrpn import ArbRPN
from clippan_lib.fusion.networks.bandwise import STEPS as BANDWISE_STEPS
from clippan_lib.fusion.networks.bandwise import BandWise
from clippan_lib.fusion.networks.drpnn import DRPNN
from clippan_lib.fusion.networks.fusionnet import FusionNet
from clippan_lib.fusion.networks.lambda_pnn import LambdaPNN
from clippan_lib.fusion.networks.lformer import LFormer
from clippan_lib.fusion.networks.msdcnn import MSDCNN
from clippan_lib.fusion.networks.pan_mamba import PanMamba
from clippan_lib.fusion.networks.pannet import PanNet
from clippan_lib.fusion.networks.pnn import PNN
from clippan_lib.fusion.networks.ship import SHIP
from clippan_lib.fusion.stack import MEMBERS, STACK, Stack
from clippan_lib.mtf import Border
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
BANDWISE = "bandwise"  # comes with the package, trained

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
    BANDWISE: BandWise,
}


@dataclass(frozen=True)
class ClassicalMethod:
    """One row of `CLASSICAL`.

    Args:
        name: name by which it is called here.
        title: as papers write it.
        family: as in Vivone et al. 2021 [vivone2021new], with sparse representation apart from the variational methods;
            "own" of a function that `plugins.register` has entered.
        fuse: (lrms, pan, ratio and gains by name) → hrms, made by `staged`.
        needs: what it needs of the sensor, by the names of its fields and of the arguments of `fuse`.
    """

    name: str
    title: str
    family: Family | Literal["own"]
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
                f"{self.name} needs the MTF gains of a sensor ({', '.join(self.needs)}); give one (the command's "
                "option --sensor), or another method"
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
        seed: seed of the initial weights; torch's own generator is left as it was.
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


def network_for(
    name: str, sensor: Sensor, seed: int = 0, consistency: int = 0, sharpness: float | None = None
) -> nn.Module:
    """A network with untrained weights for the images of a sensor.

    Args:
        name: a key of `NETWORKS`.
        sensor: bands, ratio and MTF gains.
        seed: as in `build_network`.
        consistency: steps of consistency as its last layer; 0 leaves it as its authors have it.
        sharpness: sharpness of that layer, see `Consistent`.
    Raises: ValueError as `build_network`, and as `Consistent`.
    """
    network = build_network(name, sensor.n_bands, sensor.ratio, seed)
    if isinstance(network, BandWise):
        network.through(sensor.gnyq)
    if consistency == 0:
        return network
    return Consistent(network, sensor.gnyq, sensor.ratio, consistency, sharpness)


def load_bandwise(sensor: Sensor, ratio: int) -> Consistent:
    """The band-wise network that comes with the package, for any sensor, with the last layer it was trained with.

    Args:
        sensor: its bands and MTF gains.
        ratio: PAN-to-MS scale of the images; it was trained at 4.
    Returns: in eval mode, without gradients.
    """
    network = BandWise(sensor.n_bands, ratio).through(sensor.gnyq)
    with as_file(files("clippan_lib.assets").joinpath("bandwise.safetensors")) as path:
        weights, _ = read_tensors(path, "install the package again")
    network.load_state_dict(weights)
    return Consistent(network, sensor.gnyq, ratio, BANDWISE_STEPS).requires_grad_(False).eval()


def load_stack(sensor: Sensor, ratio: int, border: Border = "replicate") -> Stack:
    """The weighted mean of `stack.MEMBERS`; see `get_method` for the arguments."""
    members = {name: get_method(name, sensor, ratio, border) for name in MEMBERS}
    return Stack(members, replace(sensor, ratio=ratio), border=border)


def get_method(name: str, sensor: Sensor, ratio: int, border: Border = "replicate") -> Method:
    """A method that needs no training, bound to a sensor: called with (lrms, pan) alone, it gives hrms.

    Args:
        name: as `find_method` takes it; "bandwise", the network that comes with the package, trained; or "stack", the
            weighted mean of several, see `stack.Stack`.
        sensor: its MTF gains.
        ratio: PAN-to-MS scale of the images, which may differ from the sensor's.
        border: how EXP extends the image at its border, see `mtf.upsample`; "circular" is the toolbox's.
    Raises: ValueError on another network, which fuses nothing before it is trained, and on an unknown name, listing
        the known ones.

    >>> from clippan_lib.sensors import get_sensor
    >>> gsa = get_method("gsa", get_sensor("WV3"), ratio=4)
    >>> gsa(torch.rand(1, 8, 16, 16), torch.rand(1, 1, 64, 64)).shape
    torch.Size([1, 8, 64, 64])
    """
    if name == STACK:
        return load_stack(sensor, ratio, border)
    if name == BANDWISE:
        return load_bandwise(sensor, ratio)
    if name in NETWORKS:
        raise ValueError(
            f"{name} is a network and has to be trained first: `clippan run MANIFEST --network {name}` does that, "
            "TrainedNetwork.load(FILE).network takes the result, load_published(...) public weights; "
            f"build_network({name!r}, bands, ratio) gives it untrained"
        )
    row, behind = find_method(name)
    fuse = partial(row.fuse, **row.settings(sensor, ratio), border=border)
    return _Consistently(fuse, sensor.gnyq, ratio, behind, border) if behind.count else fuse


class Steps(NamedTuple):
    """Steps of consistency behind a method: so many, with LRMS alone or with PAN as well."""

    count: int
    with_pan: bool

    def __str__(self) -> str:
        """As a name ends: "+3", "++3" with PAN, or nothing."""
        return f"{'++' if self.with_pan else '+'}{self.count}" if self.count else ""


@dataclass(frozen=True)
class _Consistently:
    """A method, then steps of consistency; picklable."""

    fuse: Method
    gnyq: tuple[float, ...]
    ratio: int
    steps: Steps
    border: Border

    def __call__(self, lrms: Tensor, pan: Tensor) -> Tensor:
        hrms, bound = self.fuse(lrms, pan), (self.gnyq, self.ratio, self.steps.count)
        if self.steps.with_pan:
            return consistent_with_both(hrms, lrms, pan, *bound, border=self.border)
        return consistent(hrms, lrms, *bound, self.border)


def find_method(name: str) -> tuple[ClassicalMethod, Steps]:
    """A row of `CLASSICAL`, and the steps of consistency behind it.

    Args:
        name: a key of `CLASSICAL`, or one with a plus and a number of steps of `consistency.consistent`: "bt_h+3"; or
            with two, for `consistent_with_both`: "bt_h++3".
    Raises: ValueError on an unknown name, listing the known ones, and on steps that are no number from 1 to 100.
    """
    base, plus, count = name.partition("+")
    if base not in CLASSICAL:
        raise ValueError(f"unknown classical method {base!r}; known: {', '.join(CLASSICAL)}")
    with_pan, count = count.startswith("+"), count.removeprefix("+")
    if plus and not (count.isdecimal() and len(count) < 4 and 1 <= int(count) <= MOST_STEPS):
        raise ValueError(
            f"{name!r}: {count!r} is no number of steps of consistency from 1 to {MOST_STEPS}; write {base}+3"
        )
    return CLASSICAL[base], Steps(int(count or 0), with_pan)


def is_classical(name: str) -> bool:
    """Whether a name is that of a classical method, with steps of consistency or without."""
    return str(name).partition("+")[0] in CLASSICAL


def title_of(name: str) -> str:
    """What tables call a classical method: "BT-H", "BT-H + 3 steps", or "BT-H + 3 steps with PAN".

    Raises: ValueError as `find_method`.
    """
    row, (count, with_pan) = find_method(name)
    steps = f" + {count} step{'s' * (count > 1)}" if count else ""
    return row.title + steps + " with PAN" * with_pan
