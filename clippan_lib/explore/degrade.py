"""What the MTF does to an image: sensor, gain, ratio and phase by sliders."""

from functools import cached_property

import numpy as np
from ipywidgets import Dropdown, FloatSlider, IntSlider, ValueWidget
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from clippan_lib.data import Scene
from clippan_lib.explore.base import Explorer, Update
from clippan_lib.explore.panels import Panel
from clippan_lib.figures import error_map, fit_stretch
from clippan_lib.figures.style import PALETTE, new_figure
from clippan_lib.mtf import decimate, filter_image, mtf_kernel, upsample
from clippan_lib.sensors import SENSORS, Sensor

_APRON = (
    16  # LRMS px around the area, so that its border is no border: the kernel reaches 10, interpolation 9
)
_GAIN = {"min": 0.01, "max": 0.99, "step": 0.005, "readout_format": ".3f"}
_SIZES = (64, 256)  # px: the panels are as wide
_LEAST = 16  # px, of an image without a truth: a test area may be as small
_SIDE, _BAR = 2.4, 0.12  # inches, heights of a picture and of a colour bar
_FREQUENCIES = np.linspace(0, 0.5, 257)


def degrade(scene: Scene) -> "Degrade":
    """The MTF kernel, its frequency response, and what it does to an image, before and after interpolation.

    The image is the scene's truth if there is one, else its LRMS; all bands pass through the one kernel chosen.

    Args:
        scene: what is degraded; its sensor is the first shown.
    Raises: ValueError on an image of fewer than 16 pixels a side.
    """
    return Degrade(scene)


class Degrade(Explorer):
    """What `degrade` returns.

    Controls: `sensor` and `band` set `gain` (at Nyquist), and the sensor `ratio`; `phase` is the first pixel kept of
    each `ratio` (ratio // 2 everywhere in the package: a new ratio sets it); `row`, `column`, `size` (centre and
    side of the area, px).
    """

    def __init__(self, scene: Scene) -> None:
        """Args: as of `degrade`."""
        batch = scene.read()
        self.scene, self.image = scene, batch.lrms if batch.gt is None else batch.gt
        self._stretch = fit_stretch(self.image, scene.sensor.rgb)
        # The scene's own row, which a manifest may have changed, before the table's
        self.sensors = {**SENSORS, scene.sensor.name: scene.sensor}
        super().__init__(self._controls())

    def _controls(self) -> dict[str, ValueWidget]:
        sensor, (height, width) = self.scene.sensor, self.image.shape[-2:]
        largest = min(height, width, _SIZES[1])
        if largest < _LEAST:
            raise ValueError(f"the image is {height}×{width} px: give one of {_LEAST} or more a side")
        smallest = min(largest, _SIZES[0])
        ratio = sensor.ratio
        return {
            "sensor": Dropdown(options=list(self.sensors), value=sensor.name, description="sensor"),
            "band": Dropdown(options=list(_gains(sensor)), description="band"),
            "gain": FloatSlider(
                sensor.gnyq[0], min=0.01, max=0.99, step=0.005, readout_format=".3f", description="gain"
            ),
            "ratio": IntSlider(ratio, 2, 8, description="ratio"),
            "phase": IntSlider(ratio // 2, 0, ratio - 1, description="phase (px)"),
            "row": IntSlider(height // 2, 0, height - 1, description="row (px)"),
            "column": IntSlider(width // 2, 0, width - 1, description="column (px)"),
            "size": IntSlider(min(128, largest), smallest, largest, description="size (px)"),
        }

    def _follow(self, name: str) -> None:
        sensor, phase = self.sensors[self["sensor"]], self.controls["phase"]
        if name == "sensor":
            self.controls["band"].options = list(_gains(sensor))
            self.controls["ratio"].value = sensor.ratio
        if name in ("sensor", "band"):
            self.controls["gain"].value = _gains(sensor)[self["band"]]
        if name == "ratio":
            phase.max = self["ratio"] - 1
            phase.value = self["ratio"] // 2

    @property
    def area(self) -> tuple[int, int, int]:
        """Top, left and side of what is seen, px: around the centre, inside the image, multiples of the ratio."""
        ratio = self["ratio"]
        size = self["size"] // ratio * ratio
        sides = zip((self["row"], self["column"]), self._sides, strict=True)
        return *(min(max(at - size // 2, 0), side - size) // ratio * ratio for at, side in sides), size

    @property
    def _sides(self) -> tuple[int, int]:
        """Height and width of what the ratio divides."""
        return tuple(side // self["ratio"] * self["ratio"] for side in self.image.shape[-2:])

    @property
    def kernel(self) -> Float[np.ndarray, "k k"]:
        """The kernel of all bands."""
        return mtf_kernel((self["gain"],), self["ratio"])[0].numpy()

    def _settle(self) -> None:
        """The area as it was, degraded, and interpolated again: equal to that part of the whole image."""
        ratio, (top, left, size) = self["ratio"], self.area
        starts = [max(0, corner - _APRON * ratio) for corner in (top, left)]
        ends = [
            min(side, at + size + _APRON * ratio) for side, at in zip(self._sides, (top, left), strict=True)
        ]
        around = self.image[..., starts[0] : ends[0], starts[1] : ends[1]]
        blurred = filter_image(around, mtf_kernel((self["gain"],), ratio))
        # `decimate` keeps one phase: the image moves under it, and nothing that wraps round is kept
        kept = decimate(blurred.roll((ratio // 2 - self["phase"],) * 2, (-2, -1)), ratio)
        corner = [at - start for at, start in zip((top, left), starts, strict=True)]
        self.original = _cut(around, *corner, size)
        self.degraded = _cut(kept, *(at // ratio for at in corner), size // ratio)
        self.interpolated = _cut(upsample(kept, ratio, "replicate"), *corner, size)
        self.error = error_map(self.interpolated, self.original) * self.scene.dn_max

    @cached_property
    def _limit(self) -> float:
        """End of the error scale: it stays where it is at first, so that what a slider does is seen."""
        return float(np.percentile(self.error.numpy(), 99)) or 1.0

    @property
    def values(self) -> dict[str, float]:
        """Numbers of the state: the kernel's gain at Nyquist (measured), its sum, the mean error (DN)."""
        kernel = self.kernel
        return {
            "gain at Nyquist": float(_response(kernel, np.array([0.5 / self["ratio"]]))[0]),
            "sum of the kernel": float(kernel.sum()),
            "mean error (DN)": float(self.error.mean()),
        }

    def _numbers(self) -> str:
        asked = f"; asked for {self['gain']:.3f} at {0.5 / self['ratio']:.4g} cycles per pixel"
        return ", ".join(f"{name} {value:.4g}" for name, value in self.values.items()) + asked

    def _build(self) -> tuple[Figure, Update]:
        figure = new_figure(7.2)
        # Two figures, so that the axis labels below do not part the images above
        above, below = figure.subfigures(2, 1)
        images = above.add_gridspec(2, 4, height_ratios=(_SIDE, _BAR))
        blur = below.add_gridspec(2, 4, height_ratios=(_SIDE, _BAR))
        panels = [Panel(above.add_subplot(images[0, column])) for column in range(4)]
        panels.append(Panel(below.add_subplot(blur[0, 0])))
        errors, weights = (
            ScalarMappable(Normalize(0, self._limit), "magma"),
            ScalarMappable(Normalize(0, 1), "viridis"),
        )
        for part, scale, cell, extend, label in (
            (above, errors, images[1, 3], "max", "absolute error,\nmean over bands (DN)"),
            (below, weights, blur[1, 0], "neither", "weight, of the largest"),
        ):
            bar = part.add_subplot(cell)
            part.colorbar(scale, cax=bar, orientation="horizontal", label=label, extend=extend)
        figure.suptitle(f"{self.scene.name}, {self.scene.sensor.name}: degraded and interpolated again")
        response = _Response(below.add_subplot(blur[:, 1:]))

        def update() -> None:
            ratio, kernel = self["ratio"], self.kernel
            for panel, image, title in zip(
                panels,
                (self.original, self.degraded, self.interpolated),
                ("original", f"degraded by {ratio}, phase {self['phase']}", "interpolated again"),
                strict=False,
            ):
                panel.show(
                    _bytes(self._stretch.apply(image)), f"{title}\n{image.shape[-2]}×{image.shape[-1]} px"
                )
            mean = self.values["mean error (DN)"]
            panels[3].show(errors.to_rgba(self.error.numpy(), bytes=True), f"its error\nmean {mean:.3g} DN")
            panels[4].show(
                weights.to_rgba(kernel / kernel.max(), bytes=True), f"kernel, {len(kernel)}×{len(kernel)} px"
            )
            response.show(kernel, self["gain"], ratio, f"{self['sensor']}, {self['band']}")

        return figure, update


def _gains(sensor: Sensor) -> dict[str, float]:
    """Band, or PAN, to gain at Nyquist."""
    return {**dict(zip(sensor.bands, sensor.gnyq, strict=True)), "PAN": sensor.gnyq_pan}


def _cut(
    image: Float[Tensor, "1 c _ _"], top: int, left: int, size: int
) -> Float[Tensor, "1 c {size} {size}"]:
    return image[..., top : top + size, left : left + size]


def _response(
    kernel: Float[np.ndarray, "k k"], frequency: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Gain at frequencies along a row, in cycles per pixel."""
    offset = np.arange(len(kernel)) - len(kernel) // 2
    return np.abs(np.exp(-2j * np.pi * frequency[:, None] * offset) @ kernel.sum(0))


def _bytes(shown: Float[np.ndarray, "H W 3"]) -> np.ndarray:
    return (shown * 255).round().astype(np.uint8)


class _Response:
    """The frequency response, with the gain asked for marked at the Nyquist frequency of the degraded image."""

    def __init__(self, ax: Axes) -> None:
        (self.curve,) = ax.plot([], [], color=PALETTE[0], animated=True)
        (self.mark,) = ax.plot([], [], "o", color=PALETTE[3], animated=True)
        self.nyquist = ax.axvline(0.25, color="0.5", linewidth=0.8, animated=True)
        self.note = ax.text(0.98, 0.95, "", ha="right", va="top", transform=ax.transAxes, animated=True)
        self.title = ax.set_title("")
        self.title.set_animated(True)
        ax.set(
            xlim=(0, 0.5),
            ylim=(0, 1.05),
            xlabel="frequency (cycles per pixel of the original)",
            ylabel="gain",
        )

    def show(self, kernel: Float[np.ndarray, "k k"], gain: float, ratio: int, name: str) -> None:
        nyquist = 0.5 / ratio
        self.curve.set_data(_FREQUENCIES, _response(kernel, _FREQUENCIES))
        self.mark.set_data([nyquist], [gain])
        self.nyquist.set_xdata([nyquist, nyquist])
        self.note.set_text(f"Nyquist of the degraded image {nyquist:.4g}\ndot: gain {gain:.3f}")
        self.title.set_text(f"frequency response ({name})")
