"""What the MTF does to an image: sensor, gain, ratio and phase by sliders."""

from functools import cached_property, partial

import numpy as np
from ipywidgets import Dropdown, FloatSlider, IntSlider, ValueWidget
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from clippan_lib.data import Scene
from clippan_lib.explore.areas import Area, AreaExplorer, Cover, area_around, area_sliders, cover_of
from clippan_lib.explore.base import View
from clippan_lib.explore.canvas import Canvas, Frame, Tile, bar
from clippan_lib.explore.panels import Panel
from clippan_lib.explore.plot import Plot, Update
from clippan_lib.figures import error_map, fit_stretch
from clippan_lib.figures.style import PALETTE, bare, new_figure
from clippan_lib.mtf import decimate, filter_image, mtf_kernel, upsample
from clippan_lib.sensors import SENSORS, Sensor
from clippan_lib.shapes import Image

_APRON = (
    16  # LRMS px around the area, so that its border is no border: the kernel reaches 10, interpolation 9
)
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


class Degrade(AreaExplorer):
    """What `degrade` returns.

    Controls: `sensor` and `band` set `gain` (at Nyquist), and the sensor `ratio`; `phase` is the first pixel kept of
    each `ratio` (ratio // 2 everywhere in the package: a new ratio sets it); `row`, `column`, `size` (centre and
    side of the area, px). In the pictures a drag moves the area, the wheel changes its size, shift and a drag choose
    it.
    """

    def __init__(self, scene: Scene) -> None:
        """Args: as of `degrade`."""
        batch = scene.read()
        self.scene, self.image = scene, batch.lrms if batch.gt is None else batch.gt
        self._stretch = fit_stretch(self.image, scene.sensor.rgb)
        # The scene's own row, which a manifest may have changed, before the table's
        self.sensors = {**SENSORS, scene.sensor.name: scene.sensor}
        self._cover: Cover | None = None
        self._state: tuple[float, int, int, Cover] | None = None
        controls = self._controls()
        size = controls["size"]
        self.pictures = self._listen(Canvas(tuple(self.image.shape[-2:]), (size.min, size.max, 1), 1, 0.4))
        chart = Plot(self._build_chart)
        super().__init__(controls, [self.pictures], {"kernel and response": View(chart.widget, chart.draw)})

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
            **area_sliders((height, width), (min(128, largest), smallest, largest, 1)),
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
    def area(self) -> Area:
        """Top, left and side of what is seen, px: around the centre, inside the image, multiples of the ratio."""
        size = self["size"] // self["ratio"] * self["ratio"]
        return area_around((self["row"], self["column"]), size, self._sides, self["ratio"])

    @property
    def _sides(self) -> tuple[int, int]:
        """Height and width of what the ratio divides."""
        return tuple(side // self["ratio"] * self["ratio"] for side in self.image.shape[-2:])

    @property
    def kernel(self) -> Float[np.ndarray, "k k"]:
        """The kernel of all bands."""
        return mtf_kernel((self["gain"],), self["ratio"])[0].numpy()

    def _settle(self) -> None:
        # The corners of a cover lie on the grid of its ratio
        before = self._cover if self._state and self._state[1] == self["ratio"] else None
        self._cover = cover_of(self.area, self._sides, 2 * _SIZES[1], self["ratio"], before)
        state = self["gain"], self["ratio"], self["phase"], self._cover
        if state != self._state:
            self._state, self._parts = state, self._degrade(self._cover)

    def _degrade(self, cover: Cover) -> dict[str, Image]:
        """A part of the image as it was, degraded, and interpolated again: equal to that part of the whole image."""
        ratio, corner, sides = self["ratio"], cover[:2], cover[2:4]
        starts = [max(0, at - _APRON * ratio) for at in corner]
        ends = [
            min(whole, at + side + _APRON * ratio)
            for whole, at, side in zip(self._sides, corner, sides, strict=True)
        ]
        around = self.image[..., starts[0] : ends[0], starts[1] : ends[1]]
        blurred = filter_image(around, mtf_kernel((self["gain"],), ratio))
        # `decimate` keeps one phase: the image moves under it, and nothing that wraps round is kept
        kept = decimate(blurred.roll((ratio // 2 - self["phase"],) * 2, (-2, -1)), ratio)
        place = *(at - start for at, start in zip(corner, starts, strict=True)), *sides
        original, again = _cut(around, place), _cut(upsample(kept, ratio, "replicate"), place)
        return {
            "original": original,
            "degraded": _cut(kept, tuple(at // ratio for at in place)),
            "interpolated again": again,
            "error": error_map(again, original)[None, None] * self.scene.dn_max,
        }

    def part(self, name: str) -> Image:
        """What is seen of "original", "degraded", "interpolated again" (1, c, H, W) or "error" (1, 1, H, W; DN)."""
        top, left, size = self.area
        ratio = self["ratio"] if name == "degraded" else 1
        place = top - self._cover.top, left - self._cover.left, size, size
        return _cut(self._parts[name], tuple(at // ratio for at in place))

    @cached_property
    def _limit(self) -> float:
        """End of the error scale: it stays where it is at first, so that what a slider does is seen."""
        return float(np.percentile(self.part("error").numpy(), 99)) or 1.0

    @property
    def values(self) -> dict[str, float]:
        """Numbers of the state: the kernel's gain at Nyquist (measured), its sum, the mean error (DN)."""
        kernel = self.kernel
        return {
            "gain at Nyquist": float(_response(kernel, np.array([0.5 / self["ratio"]]))[0]),
            "sum of the kernel": float(kernel.sum()),
            "mean error (DN)": float(self.part("error").mean()),
        }

    def _numbers(self) -> str:
        asked = f"; asked for {self['gain']:.3f} at {0.5 / self['ratio']:.4g} cycles per pixel"
        return ", ".join(f"{name} {value:.4g}" for name, value in self.values.items()) + asked

    def _draw(self) -> None:
        self.pictures.extent = list(self._sides)
        self.pictures.grid = self["ratio"]
        self.pictures.bars = [bar(self._errors, "absolute error, mean over bands (DN)")]
        frames = [
            Frame(title, note, {(name, self._state): partial(self._tile, name)})
            for name, (title, note) in self._titles().items()
        ]
        self.pictures.show(frames, self.area)

    def _tile(self, name: str) -> Tile:
        return Tile(self._picture(self._parts[name], name), self._cover[:4])

    def _picture(self, image: Image, name: str) -> np.ndarray:
        if name == "error":
            return self._errors.to_rgba(image[0, 0].numpy(), bytes=True)
        return (self._stretch.apply(image) * 255).round().astype(np.uint8)

    def _titles(self) -> dict[str, tuple[str, str]]:
        """Title and note of each picture."""
        size, ratio, mean = self.area[2], self["ratio"], self.values["mean error (DN)"]
        return {
            "original": ("original", f"{size}×{size} px"),
            "degraded": (
                f"degraded by {ratio}",
                f"phase {self['phase']}, {size // ratio}×{size // ratio} px",
            ),
            "interpolated again": ("interpolated again", f"{size}×{size} px"),
            "error": ("its error", f"mean {mean:.3g} DN"),
        }

    @property
    def _errors(self) -> ScalarMappable:
        return ScalarMappable(Normalize(0, self._limit), "magma")

    def _said(self, frame: int, row: int, column: int) -> str:
        name = list(self._parts)[frame]
        at = [row - self._cover.top, column - self._cover.left]
        at = [place // self["ratio"] if name == "degraded" else place for place in at]
        image = self._parts[name][0]
        if not all(0 <= place < side for place, side in zip(at, image.shape[1:], strict=True)):
            return ""
        factor = 1 if name == "error" else self.scene.dn_max
        values = " ".join(f"{value:.0f}" for value in image[:, *at] * factor)
        return f"row {row}, column {column}: {name} {values} DN"

    def _build_chart(self) -> tuple[Figure, Update]:
        figure = new_figure(2.4)
        cells = figure.add_gridspec(1, 2, width_ratios=(1, 3))
        kernel, response = figure.add_subplot(cells[0]), _Response(figure.add_subplot(cells[1]))
        image = kernel.imshow(np.zeros((1, 1)), cmap="viridis", vmin=0, vmax=1, animated=True)
        bare(kernel)
        title = kernel.set_title("kernel")

        def update() -> None:
            size = len(self.kernel)
            image.set_data(self.kernel / self.kernel.max())
            image.set_extent((0, size, size, 0))
            title.set_text(f"kernel, {size}×{size} px")
            response.show(self.kernel, self["gain"], self["ratio"], f"{self['sensor']}, {self['band']}")

        return figure, update

    def _print(self) -> Figure:
        figure = new_figure(7.2)
        # Two figures, so that the axis labels below do not part the images above
        above, below = figure.subfigures(2, 1)
        images = above.add_gridspec(2, 4, height_ratios=(_SIDE, _BAR))
        blur = below.add_gridspec(2, 4, height_ratios=(_SIDE, _BAR))
        for column, (name, titles) in enumerate(self._titles().items()):
            shown = self._picture(self.part(name), name)
            Panel(above.add_subplot(images[0, column])).show(shown, "\n".join(titles))
        weights, kernel = ScalarMappable(Normalize(0, 1), "viridis"), self.kernel
        shown = weights.to_rgba(kernel / kernel.max(), bytes=True)
        Panel(below.add_subplot(blur[0, 0])).show(shown, f"kernel, {len(kernel)}×{len(kernel)} px")
        for part, scale, cell, extend, label in (
            (above, self._errors, images[1, 3], "max", "absolute error,\nmean over bands (DN)"),
            (below, weights, blur[1, 0], "neither", "weight, of the largest"),
        ):
            place = part.add_subplot(cell)
            part.colorbar(scale, cax=place, orientation="horizontal", label=label, extend=extend)
        figure.suptitle(f"{self.scene.name}, {self.scene.sensor.name}: degraded and interpolated again")
        response = _Response(below.add_subplot(blur[:, 1:]))
        response.show(kernel, self["gain"], self["ratio"], f"{self['sensor']}, {self['band']}")
        return figure


def _gains(sensor: Sensor) -> dict[str, float]:
    """Band, or PAN, to gain at Nyquist."""
    return {**dict(zip(sensor.bands, sensor.gnyq, strict=True)), "PAN": sensor.gnyq_pan}


def _cut(image: Float[Tensor, "1 c _ _"], place: tuple[int, ...]) -> Float[Tensor, "1 c _ _"]:
    top, left, height, width = place
    return image[..., top : top + height, left : left + width]


def _response(
    kernel: Float[np.ndarray, "k k"], frequency: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Gain at frequencies along a row, in cycles per pixel."""
    offset = np.arange(len(kernel)) - len(kernel) // 2
    return np.abs(np.exp(-2j * np.pi * frequency[:, None] * offset) @ kernel.sum(0))


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
