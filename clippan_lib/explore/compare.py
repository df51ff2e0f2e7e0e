"""Methods side by side: one area, one stretch, one error scale for all, spectra and metrics of what is seen."""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from math import ceil, lcm
from typing import Any

import numpy as np
import pandas as pd
import torch
from ipywidgets import Dropdown, FloatRangeSlider, IntSlider, SelectMultiple, ToggleButtons, ValueWidget
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from clippan_lib.data import Batch, Scene
from clippan_lib.evaluation.scores import CONVENTION, Scorer
from clippan_lib.explore.areas import Area, AreaExplorer, Cover, area_around, area_sliders, cover_of
from clippan_lib.explore.base import View, scrolled
from clippan_lib.explore.canvas import Canvas, Frame, Tile, bar
from clippan_lib.explore.comparison import NOTHING, SingleImage, images_of, part_of, reduced
from clippan_lib.explore.panels import Errors, Spectra, comparison
from clippan_lib.explore.plot import Plot, Update
from clippan_lib.figures import Stretch, error_map, fit_stretch, mark_best
from clippan_lib.figures.style import new_figure
from clippan_lib.figures.tables import as_text, header
from clippan_lib.fusion import Method
from clippan_lib.metrics import BETTER
from clippan_lib.shapes import Image

_BLOCK = 32  # PAN px: sides of what is shown are multiples, as the metrics without truth need
_SCREEN = {"side by side": 250, "swipe": 450}  # px of a frame: what shows twice as many is averaged down
_SHOWN = 4  # images, at first
_WHITE = np.full((1, 1, 4), 255, np.uint8)


def compare(scene: Scene, results: Mapping[str, Image | Method]) -> "Compare":
    """Fused images of a scene side by side, linked, with errors, spectra and metrics of the visible area.

    Args:
        scene: what was fused; says sensor, ratio and resolution, and gives the truth if there is one.
        results: title to fused image, (1, c, H, W) in [0, 1], or to the method that makes it.
    Raises: ValueError on no results, a taken title, an image of another shape or not finite, or a scene of
        fewer than 32 PAN pixels a side.
    """
    return Compare(scene, results)


class Compare(AreaExplorer):
    """What `compare` returns.

    Controls: `view` ("side by side" or "swipe"), `shown` (titles), `left`, `right`, `swipe` (% of the width
    that shows `left`), `row`, `column`, `size` (centre and side of the area, PAN px), `red`, `green`, `blue`
    (band names), `stretch` (percentiles of LRMS, shared by all), `against` (what errors are taken from),
    `spectrum_row`, `spectrum_column` (PAN px). In the pictures a drag moves the area, the wheel changes its size, shift
    and a drag choose it, a click sets the pixel whose spectrum is shown, and arrow keys move that pixel.
    """

    _rest = 0.3

    def __init__(self, scene: Scene, results: Mapping[str, Image | Method]) -> None:
        """Args: as of `compare`."""
        self.scene, self.batch = scene, scene.read()
        self.images = images_of(self.batch, results)
        self.methods = [title for title in self.images if title in results]
        self._full = tuple(title for title in self.images if title not in ("LRMS", "PAN"))
        self._grey = fit_stretch(self.batch.pan, (0,))
        self._fit = lru_cache(2)(lambda bands, percentiles: fit_stretch(self.batch.lrms, bands, percentiles))
        self._limit = lru_cache(self._end)
        self._error_map = lru_cache(32)(self._difference)
        self._scores = lru_cache(2)(self._measure)
        self._cover: Cover | None = None
        controls = self._controls()
        size = controls["size"]
        sides, sizes = tuple(self.batch.pan.shape[-2:]), (size.min, size.max, size.step)
        self.pictures, self.maps = (Canvas(sides, sizes, scene.ratio, share) for share in (0.45, 0.25))
        for canvas in (self.pictures, self.maps):
            self._listen(canvas)
            canvas.observe(self._point, names="spot")
        self.pictures.observe(lambda change: self.set(swipe=round(100 * change.new)), names="split")
        self._chart = Plot(self._build_spectra, lambda: (self.visible,))
        tabs = {
            "errors": View(self.maps, self._draw_errors),
            "spectra": View(self._chart.widget, self._chart.draw),
        }
        super().__init__(controls, [self.pictures], tabs)

    def _controls(self) -> dict[str, ValueWidget]:
        sensor, (height, width) = self.scene.sensor, self.batch.pan.shape[-2:]
        step = lcm(_BLOCK, self.scene.ratio)
        largest = min(height, width) // step * step
        if not largest:
            raise ValueError(
                f"{self.scene.name} is {height}×{width} PAN px: an area has sides of at least {step}"
            )
        titles, last = list(self.images), "GT" if "GT" in self.images else self.methods[-1]
        chosen = [*(["LRMS"] if last != "GT" else []), *self.methods][: _SHOWN - (last == "GT")]
        chosen += ["GT"] if last == "GT" else []
        colours = dict(zip(("red", "green", "blue"), sensor.rgb, strict=True))
        against = [NOTHING, *(["GT"] if last == "GT" else []), *self.methods]
        return {
            "view": ToggleButtons(options=list(_SCREEN), description="view", style={"button_width": "auto"}),
            "left": Dropdown(options=titles, value=self.methods[0], description="left"),
            "right": Dropdown(options=titles, value=last, description="right"),
            "swipe": IntSlider(50, 0, 100, description="swipe (%)"),
            **area_sliders((height, width), (min(8 * step, largest), step, largest, step)),
            **{
                name: Dropdown(options=sensor.bands, value=sensor.bands[band], description=name)
                for name, band in colours.items()
            },
            "stretch": FloatRangeSlider(
                value=(1, 99), min=0, max=100, step=0.5, description="stretch (%)", readout_format=".0f"
            ),
            "against": Dropdown(options=against, value=against[last == "GT"], description="error from"),
            "spectrum_row": IntSlider(height // 2, 0, height - 1, description="pixel row"),
            "spectrum_column": IntSlider(width // 2, 0, width - 1, description="pixel col."),
            "shown": SelectMultiple(
                options=titles, value=chosen, description="shown", rows=min(10, len(titles))
            ),
        }

    @property
    def area(self) -> Area:
        """Top, left and side of what is seen, PAN px: around the centre, inside the scene, on whole LRMS px."""
        sides = tuple(self.batch.pan.shape[-2:])
        return area_around((self["row"], self["column"]), self["size"], sides, self.scene.ratio)

    def _follow(self, name: str) -> None:
        if name in ("row", "column", "size"):
            top, left, size = self.area
            at = self["spectrum_row"] - top, self["spectrum_column"] - left
            if not all(0 <= each < size for each in at):  # the cross would be out of sight
                self.controls["spectrum_row"].value = top + size // 2
                self.controls["spectrum_column"].value = left + size // 2

    def _point(self, change: Mapping[str, Any]) -> None:
        if change["new"]:
            row, column = change["new"]
            self.set(spectrum_row=row, spectrum_column=column)

    @property
    def visible(self) -> tuple[str, ...]:
        """Titles of what is seen."""
        return self["shown"] if self["view"] == "side by side" else (self["left"], self["right"])

    @property
    def stretch(self) -> Stretch:
        """The stretch of all multispectral images."""
        bands = self.scene.sensor.bands
        chosen = tuple(bands.index(self[name]) for name in ("red", "green", "blue"))
        return self._fit(chosen, self["stretch"])

    @property
    def scores(self) -> pd.DataFrame:
        """Metrics of the visible methods, one row each, as if the visible area were the scene."""
        return self._scores(self.area, tuple(title for title in self.visible if title in self.methods))

    @property
    def spectra(self) -> pd.DataFrame:
        """Digital numbers at the chosen pixel, one row per band, one column per visible multispectral image."""
        pixel = self["spectrum_row"], self["spectrum_column"]
        found = {}
        for title in dict.fromkeys(self.visible):
            if title != "PAN":
                row, column = (at // self.scene.ratio if title == "LRMS" else at for at in pixel)
                found[title] = self.images[title][:, row, column].numpy() * self.scene.dn_max
        return pd.DataFrame(found, index=pd.Index(self.scene.sensor.bands, name="band"))

    @property
    def errors(self) -> dict[str, Float[Tensor, "H W"]]:
        """Absolute difference of the visible images to `against` in the area, mean over bands (DN)."""
        top, left, size = self.area
        area = Cover(top, left, size, size, 1)
        return {title: self._difference(title, self["against"], area) for title in self._compared}

    @property
    def _compared(self) -> list[str]:
        """Titles of the visible images that have an error."""
        return [
            title for title in self.visible if title in self._full and self["against"] not in (NOTHING, title)
        ]

    def _difference(self, title: str, against: str, cover: Cover) -> Float[Tensor, "_ _"]:
        image, reference = (part_of(self.images[name], cover, 1) for name in (title, against))
        return (error_map(image, reference) * self.scene.dn_max).float()

    def _end(self, against: str) -> float:
        """End of the error scale: 99th percentile of all images but the reference; of large ones, of a grid."""
        step = ceil(max(self.batch.pan.shape[-2:]) / 256)
        small = {title: self.images[title][:, ::step, ::step] for title in self._full}
        others = [error_map(small[title], small[against]) for title in self._full if title != against]
        return float(np.percentile(torch.stack(others).numpy(), 99)) * self.scene.dn_max if others else 1.0

    def _cut(self, title: str) -> SingleImage:
        (top, left, size), ratio = self.area, self.scene.ratio if title == "LRMS" else 1
        corner = slice(top // ratio, (top + size) // ratio), slice(left // ratio, (left + size) // ratio)
        return self.images[title][:, *corner]

    def _measure(self, area: tuple[int, int, int], titles: tuple[str, ...]) -> pd.DataFrame:
        cuts = {
            title: self._cut(title)[None] for title in ("LRMS", "PAN", *(["GT"] * self.scene.has_gt), *titles)
        }
        batch = Batch(cuts["LRMS"], cuts["PAN"], cuts.get("GT"), self.batch.index)
        scorer = Scorer(batch, self.scene)
        return pd.DataFrame({title: scorer(cuts[title]) for title in titles}).T

    def _counted(self) -> Hashable:
        return self.area, self.visible

    def _numbers(self) -> str:
        top, left, size = self.area
        told = f"rows {top} to {top + size - 1}, columns {left} to {left + size - 1}"
        if self.scores.empty:
            return f"No metrics of {told}: no method is shown, or the scene has neither truth nor full resolution."
        several = len(self.scores) > 1
        table = mark_best(self.scores, BETTER, digits=3) if several else as_text(self.scores, digits=3)
        stars = " (* best)" if several else ""
        caption = f"<summary>Metrics of {told} alone{stars}</summary>{CONVENTION}"
        return f"<details>{caption}</details>{scrolled(table.rename(columns=header))}"

    # The pictures: the area and what lies around it, at most about as fine as the screen

    def _settle(self) -> None:
        for control in ("left", "right", "swipe"):
            self.controls[control].disabled = self["view"] != "swipe"
        self.controls["shown"].disabled = self["view"] == "swipe"
        if not self.visible:
            raise ValueError("nothing is shown: choose at least one image in `shown`")
        step = lcm(self.scene.ratio, _BLOCK)
        screen, sides = _SCREEN[self["view"]], tuple(self.batch.pan.shape[-2:])
        self._cover = cover_of(self.area, sides, screen, step, self._cover)

    def _draw(self) -> None:
        spot = [self["spectrum_row"], self["spectrum_column"]]
        self.pictures.spot = spot
        if round(100 * self.pictures.split) != self["swipe"]:
            self.pictures.split = self["swipe"] / 100
        key = self._cover, self["red"], self["green"], self["blue"], self["stretch"]
        shown = {title: {(title, *key): partial(self._picture, title, self._cover)} for title in self.visible}
        frames = [Frame(title, self._note(title), tiles) for title, tiles in shown.items()]
        if self["view"] == "swipe":
            both = {key: make for tiles in shown.values() for key, make in tiles.items()}
            frames = [Frame(" | ".join(self.visible), " | ".join(map(self._note, self.visible)), both)]
        self.pictures.show(frames, self.area)

    def _draw_errors(self) -> None:
        against = self["against"]
        if against == NOTHING:
            self.maps.bars = []
            return self.maps.show([Frame("choose in “error from” what errors are taken from")], self.area)
        scale = self._scale(against)
        self.maps.spot = [self["spectrum_row"], self["spectrum_column"]]
        self.maps.bars = [bar(scale, f"absolute difference to {against}, mean over bands (DN)")]
        frames = [
            Frame(
                title,
                self._note(title),
                {(title, against, self._cover): partial(self._error, title, scale, self._cover)},
            )
            for title in self._compared
        ]
        self.maps.show(frames or [Frame(f"no image but {against} is shown")], self.area)

    def _note(self, title: str) -> str:
        if title not in self._compared or self._cover is None:
            return ""
        (top, left, size), cover = self.area, self._cover
        corner = top - cover.top, left - cover.left
        seen = self._error_map(title, self["against"], cover)
        mean = seen[corner[0] : corner[0] + size, corner[1] : corner[1] + size].mean()
        return f"error: mean {mean:.3g} DN"

    def _said(self, frame: int, row: int, column: int) -> str:
        (height, width), titles = self.batch.pan.shape[-2:], list(self.visible)
        row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
        if self["view"] == "swipe":
            _, left, size = self.area
            titles = [titles[column - left >= size * self["swipe"] / 100]]
        title = titles[min(frame, len(titles) - 1)]
        at = [side // self.scene.ratio if title == "LRMS" else side for side in (row, column)]
        values = " ".join(f"{value:.0f}" for value in self.images[title][:, *at] * self.scene.dn_max)
        told = f"row {row}, column {column}: {title} {values} DN"
        if title not in self._compared:
            return told
        difference = self._difference(title, self["against"], Cover(row, column, 1, 1, 1))
        return f"{told}; error {difference.item():.3g} DN"

    def _picture(self, title: str, cover: Cover) -> Tile:
        ratio = self.scene.ratio if title == "LRMS" else 1
        stretch = self._grey if title == "PAN" else self.stretch
        cut = part_of(self.images[title][list(stretch.bands)], cover, ratio)
        seen = reduced(cut, max(1, cover.factor // ratio))
        shown = replace(stretch, bands=tuple(range(len(stretch.bands)))).apply(seen)
        side = max(1, cover.factor // ratio) * ratio
        place = cover.top, cover.left, shown.shape[0] * side, shown.shape[1] * side
        return Tile((shown * 255).round().astype(np.uint8), place)

    def _error(self, title: str, scale: ScalarMappable, cover: Cover) -> Tile:
        seen = reduced(self._error_map(title, self["against"], cover)[None], cover.factor)[0]
        place = cover.top, cover.left, *(side * cover.factor for side in seen.shape)
        return Tile(scale.to_rgba(seen.numpy(), bytes=True), place)

    def _scale(self, against: str) -> ScalarMappable:
        return ScalarMappable(Normalize(0.0, self._limit(against) or 1.0), colormaps["magma"])

    def _build_spectra(self) -> tuple[Figure, Update]:
        figure = new_figure(2.6)
        spectra = Spectra(figure.subplots(), self.spectra, list(self.images))
        return figure, lambda: spectra.show(self.spectra, self._pixel)

    @property
    def _pixel(self) -> str:
        return f"row {self['spectrum_row']}, column {self['spectrum_column']}"

    # The figure to print

    def _print(self) -> Figure:
        top, left, size = self.area
        exactly, titles = Cover(top, left, size, size, 1), list(self.visible)
        scale = None if self["against"] == NOTHING else self._scale(self["against"])
        errors = [
            self._error(title, scale, exactly).pixels if scale and title in self._compared else _WHITE
            for title in titles
        ]
        return comparison(
            self._heading(),
            titles,
            [self._picture(title, exactly).pixels for title in titles],
            Errors(errors, [self._note(title) for title in titles], scale, self["against"]),
            spot=((self["spectrum_column"] + 0.5 - left) / size, (self["spectrum_row"] + 0.5 - top) / size),
            split=self["swipe"] / 100 if self["view"] == "swipe" else None,
            spectra=(self.spectra, list(self.images), self._pixel),
        )

    def _heading(self) -> str:
        top, left, size = self.area
        bands = ", ".join(self.scene.sensor.bands[band] for band in self.stretch.bands)
        low, high = self["stretch"]
        return (
            f"{self.scene.name}, {self.scene.sensor.name} ({bands}), rows {top} to {top + size - 1}, "
            f"columns {left} to {left + size - 1}; stretch {low:g} to {high:g} % of LRMS"
        )
