"""Scenes: LRMS and PAN (and a reference where there is one) of one place, read by windows."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from clippan_lib.data.bounds import refuse_unheld
from clippan_lib.errors import DataError
from clippan_lib.mtf import STRONGEST, degrade, imresize
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import HRMS, LRMS, PAN, Image

Resolution = Literal["full", "reduced"]
RESOLUTIONS: tuple[Resolution, ...] = ("full", "reduced")
CACHE_BYTES = 2**31
# A truth is at least this sharp at its Nyquist frequency: about what PAN is, which it shall be the target for
SHARP = 0.25
HALVED = 0.33  # the gain at Nyquist of what was softer, once halved: .30 to .38 were measured
REDUCED_PAN = 0.45  # the same of PAN after bicubic reduction


@dataclass(frozen=True)
class Batch:
    """Patches or whole scenes, side by side.

    Args:
        lrms: (b, c, h, w), [0, 1].
        pan: (b, 1, ratio*h, ratio*w), [0, 1] (simulated PAN may overshoot a little, as the toolbox's does).
        gt: (b, c, ratio*h, ratio*w), [0, 1], None where no reference exists.
        index: (b,), positions in the patch set or list of scenes that the rows came from.
    """

    lrms: LRMS
    pan: PAN
    gt: HRMS | None
    index: Int64[Tensor, " b"]

    def to(self, device: str | torch.device) -> "Batch":
        """The same batch on another device."""
        gt = None if self.gt is None else self.gt.to(device)
        return Batch(self.lrms.to(device), self.pan.to(device), gt, self.index.to(device))


class Places(NamedTuple):
    """Windows of a regular tiling, by their numbers: counted scene after scene and row by row, those with NoData too.

    Args:
        stride: stride of the tiling, px of LRMS.
        numbers: numbers of the windows that are meant.
    """

    stride: int
    numbers: Sequence[int]


@dataclass(frozen=True)
class Windows:
    """Equally sized windows, one per row of a batch; sizes and positions in LRMS pixels."""

    scenes: list[int]
    tops: list[int]
    lefts: list[int]
    height: int
    width: int

    def cut(self, images: Iterable[Tensor], scale: int) -> Image:
        """The n-th window out of the n-th image (c, H, W), whose pixels are `scale` times finer than LRMS."""
        height, width = scale * self.height, scale * self.width
        corners = ((scale * top, scale * left) for top, left in zip(self.tops, self.lefts, strict=True))
        return torch.stack(
            [
                image[:, top : top + height, left : left + width]
                for image, (top, left) in zip(images, corners, strict=True)
            ]
        )


@dataclass(eq=False)
class SceneStack(ABC):
    """Equally sized scenes of one split at one resolution.

    Args:
        names: one per scene.
        sensor: bands and optics of all of them.
        resolution: "full" (as measured) or "reduced" (degraded by `ratio`, so that a reference exists).
        height, width: height and width of LRMS, px.
        has_gt: whether `read` gives a reference.
        max_value: what stored values were divided by.
    """

    names: tuple[str, ...]
    sensor: Sensor
    resolution: Resolution
    height: int
    width: int
    has_gt: bool
    max_value: float

    @property
    def dn_max(self) -> float:
        """What takes an image to digital numbers: `max_value`, or the sensor's largest where fractions are stored."""
        return self.max_value if self.max_value > 1 else float(self.sensor.max_value)

    @abstractmethod
    def read(self, windows: Windows) -> Batch:
        """The pixels of the windows, in their order; `index` holds the scenes."""

    def usable(self, size: int, stride: int) -> Places:
        """The windows of a regular tiling (px of LRMS) that hold no NoData.

        Raises: NoWindow if there is none.
        """
        rows, columns = ((side - size) // stride + 1 for side in (self.height, self.width))
        return Places(stride, range(len(self.names) * rows * columns))

    def areas(self) -> "SceneStack":
        """What is looked at and judged as a whole: the scenes, or parts of one too large for that.

        Raises: NoWindow if no part is free of NoData.
        """
        return self

    @property
    def left_out(self) -> Mapping[str, str]:
        """What is not judged of `areas`, in words, to why."""
        return {}

    def degraded(self, sharp: bool = False) -> "SceneStack":
        """The same scenes at reduced resolution, made whole one by one.

        Args:
            sharp: see `wald`.
        Raises: DataError if they are too small.
        """
        step = step_down(self.sensor, sharp)
        height, width = self.height // step, self.width // step
        if not height or not width:
            raise DataError(
                f"{self.names[0]}: {self.height} x {self.width} LRMS px are too few to degrade by {step}; "
                "give the split a larger share"
            )

        def load(scene: int) -> Batch:
            measured = self.read(Windows([scene], [0], [0], self.height, self.width))
            return wald(measured.lrms, measured.pan, self.sensor, sharp)

        return MemoryStack(self.names, self.sensor, "reduced", height, width, True, self.max_value, load)

    def as_full(self, truth: bool) -> "SceneStack":
        """The same scenes, taken for measured ones.

        Args:
            truth: whether they come with their reference.
        """
        taken = copy.copy(self)
        taken.resolution, taken.has_gt = "full", truth
        return taken


@dataclass(eq=False)
class MemoryStack(SceneStack):
    """Scenes made whole by `load` (a batch of one); the latest used are kept, up to `CACHE_BYTES`."""

    load: Callable[[int], Batch]

    def __post_init__(self) -> None:
        high = self.sensor.ratio**2
        values = self.sensor.n_bands + high + self.has_gt * high * self.sensor.n_bands
        scene_bytes = max(1, 4 * self.height * self.width * values)
        refuse_unheld(f"{self.names[0]}", [(values, self.height, self.width)], "take smaller scenes")
        self._kept = lru_cache(maxsize=max(1, CACHE_BYTES // scene_bytes))(self.load)

    def read(self, windows: Windows) -> Batch:
        scenes, ratio = [self._kept(scene) for scene in windows.scenes], self.sensor.ratio
        lrms = windows.cut([scene.lrms[0] for scene in scenes], 1)
        pan = windows.cut([scene.pan[0] for scene in scenes], ratio)
        references = [scene.gt[0] for scene in scenes if scene.gt is not None]
        gt = windows.cut(references, ratio) if self.has_gt else None
        return Batch(lrms, pan, gt, torch.tensor(windows.scenes))


@dataclass(frozen=True)
class Scene:
    """One scene of a stack: nothing is read before `read`."""

    stack: SceneStack
    position: int

    @property
    def name(self) -> str:
        return self.stack.names[self.position]

    @property
    def sensor(self) -> Sensor:
        return self.stack.sensor

    @property
    def ratio(self) -> int:
        return self.stack.sensor.ratio

    @property
    def dn_max(self) -> float:
        """What takes an image to digital numbers."""
        return self.stack.dn_max

    @property
    def resolution(self) -> Resolution:
        return self.stack.resolution

    @property
    def height(self) -> int:
        """Rows of LRMS."""
        return self.stack.height

    @property
    def width(self) -> int:
        """Columns of LRMS."""
        return self.stack.width

    @property
    def has_gt(self) -> bool:
        return self.stack.has_gt

    def read(self, top: int = 0, left: int = 0, height: int | None = None, width: int | None = None) -> Batch:
        """A window of the scene, the whole of it by default.

        Args:
            top, left: first row and column of LRMS, px.
            height, width: size of the window in LRMS px, to the edge if None.
        Returns: a batch of one.
        Raises: DataError if the window leaves the scene.
        """
        height = self.height - top if height is None else height
        width = self.width - left if width is None else width
        inside = 0 <= top < top + height <= self.height and 0 <= left < left + width <= self.width
        if not inside:
            raise DataError(
                f"{self.name}: window top {top}, left {left}, height {height}, width {width} is not inside "
                f"the scene of {self.height} x {self.width} LRMS px; keep within it"
            )
        return self.stack.read(Windows([self.position], [top], [left], height, width))


def step_down(sensor: Sensor, sharp: bool) -> int:
    """How many measured LRMS px, along a side, become one at reduced resolution.

    Args:
        sensor: gives ratio and MTF gains.
        sharp: whether the truth is to be sharp, see `wald`.
    Returns: the ratio, or twice that where the truth is halved first.
    """
    return sensor.ratio * (2 if sharp and is_soft(sensor) else 1)


def is_soft(sensor: Sensor) -> bool:
    """Whether the sensor's own MS would be too soft a truth: its mean gain at Nyquist is under `SHARP`."""
    return sum(sensor.gnyq) / len(sensor.gnyq) < SHARP


def sharpness_of_truth(sensor: Sensor, sharp: bool, pan: float = REDUCED_PAN) -> float:
    """Of the truth relative to PAN, as a gain at PAN's Nyquist frequency, for `mtf.sharpened`.

    The truth is as sharp as the MS optics would be one scale finer, or, halved, has about `HALVED`.

    Args:
        sensor: its gains.
        sharp: see `wald`.
        pan: gain of PAN: the sensor's own at full resolution, `REDUCED_PAN` at reduced.
    """
    truth = HALVED if sharp and is_soft(sensor) else sum(sensor.gnyq) / len(sensor.gnyq)
    return min(truth / pan, STRONGEST)


def wald(lrms: LRMS, pan: PAN, sensor: Sensor, sharp: bool = False) -> Batch:
    """Reduced resolution (Wald's protocol): everything `ratio` coarser, the measured LRMS as reference.

    LRMS by the sensor's MTF and decimation, PAN by bicubic reduction, as the toolbox does (Wald, Ranchin and
    Mangolini 1997 [wald1997fusion]). Sides that are no multiple of the `step_down` are cropped at the bottom and
    right first.

    The measured LRMS of a soft product is a soft truth: of a sensor whose gain at Nyquist is low it holds hardly any
    detail of its finest pixels, and whoever is trained towards it, or judged by it, is rewarded for blur. `sharp`
    (ours) makes a truth about as sharp as PAN: where the mean of the gains is below `SHARP`, LRMS and PAN are first
    resized to one half (bicubic, antialiased): the new Nyquist frequency is half the old one, where the gain was
    still high. This truth is then degraded with the gains of the product as it was, so that what is learned is to
    undo the product's own softness. Sensors with higher gains are left as they are.

    Args:
        lrms: (b, c, h, w), [0, 1], h and w at least `step_down`.
        pan: (b, 1, ratio*h, ratio*w), [0, 1].
        sensor: gives ratio and MTF gains.
        sharp: whether a soft truth is halved first.
    Returns: a batch with lrms (b, c, h/ratio, w/ratio), pan (b, 1, h, w) and gt (b, c, h, w) for cropped sides h and
        w, all three half as large where the truth was halved.

    >>> from clippan_lib.sensors import get_sensor
    >>> batch = wald(torch.rand(1, 8, 32, 32), torch.rand(1, 1, 128, 128), get_sensor("WV3"))
    >>> [tuple(image.shape) for image in (batch.lrms, batch.pan, batch.gt)]
    [(1, 8, 8, 8), (1, 1, 32, 32), (1, 8, 32, 32)]
    """
    ratio, step = sensor.ratio, step_down(sensor, sharp)
    height, width = (side - side % step for side in lrms.shape[-2:])
    gt, pan = lrms[..., :height, :width], pan[..., : ratio * height, : ratio * width]
    if step > ratio:
        height, width = height // 2, width // 2
        gt, pan = imresize(gt, (height, width)).clamp(0, 1), imresize(pan, (ratio * height, ratio * width))
    pan = imresize(pan, (height, width))
    index = torch.zeros(len(lrms), dtype=torch.int64)
    return Batch(degrade(gt, sensor.gnyq, ratio), pan, gt, index)
