"""Methods side by side: one area, one stretch, one error scale for all, spectra and metrics of what is seen."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from functools import lru_cache
from math import ceil, lcm

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from ipywidgets import Dropdown, FloatRangeSlider, IntSlider, SelectMultiple, ToggleButtons, ValueWidget
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from clippan_lib.data import Batch, Scene
from clippan_lib.evaluation.scores import CONVENTION, Scorer, fuse
from clippan_lib.explore.base import Explorer, Update, scrolled
from clippan_lib.explore.panels import Panel, Spectra, places
from clippan_lib.figures import Stretch, error_map, fit_stretch, mark_best
from clippan_lib.figures.stretch import single
from clippan_lib.figures.tables import header
from clippan_lib.fusion import Method
from clippan_lib.metrics import BETTER
from clippan_lib.shapes import Image

_BLOCK = 32  # PAN px: sides of what is shown are multiples, as the metrics without truth need
_SCREEN = {"side by side": 250, "swipe": 450}  # px of a panel: what shows twice as many is averaged down
_SHOWN = 4  # images, at first
_NOTHING = "nothing"
SingleImage = Float[Tensor, "_ _ _"]


def compare(scene: Scene, results: Mapping[str, Image | Method]) -> "Compare":
    """Fused images of a scene side by side, linked, with errors, spectra and metrics of the visible area.

    Args:
        scene: what was fused; says sensor, ratio and resolution, and gives the truth if there is one.
        results: title to fused image, (1, c, H, W) in [0, 1], or to the method that makes it.
    Raises: ValueError on no results, a taken title, an image of another shape or not finite, or a scene of
        fewer than 32 PAN pixels a side.
    """
    return Compare(scene, results)


class Compare(Explorer):
    """What `compare` returns.

    Controls: `view` ("side by side" or "swipe"), `shown` (titles), `left`, `right`, `swipe` (% of the width
    that shows `left`), `row`, `column`, `size` (centre and side of the area, PAN px), `red`, `green`, `blue`
    (band names), `stretch` (percentiles of LRMS, shared by all), `against` (what errors are taken from),
    `spectrum_row`, `spectrum_column` (PAN px).
    """

    _rest = 0.3

    def __init__(self, scene: Scene, results: Mapping[str, Image | Method]) -> None:
        """Args: as of `compare`."""
        self.scene, self.batch = scene, scene.read()
        self.images = _images(self.batch, results)
        self.methods = [title for title in self.images if title in results]
        self._full = tuple(title for title in self.images if title not in ("LRMS", "PAN"))
        self._grey = fit_stretch(self.batch.pan, (0,))
        self._fit = lru_cache(2)(lambda bands, percentiles: fit_stretch(self.batch.lrms, bands, percentiles))
        self._error_map = lru_cache(8)(self._difference)
        self._scores = lru_cache(2)(self._measure)
        super().__init__(self._controls())

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
        against = [_NOTHING, *(["GT"] if last == "GT" else []), *self.methods]
        return {
            "view": ToggleButtons(options=list(_SCREEN), description="view", style={"button_width": "auto"}),
            "left": Dropdown(options=titles, value=self.methods[0], description="left"),
            "right": Dropdown(options=titles, value=last, description="right"),
            "swipe": IntSlider(50, 0, 100, description="swipe (%)"),
            "row": IntSlider(height // 2, 0, height - 1, description="row (px)"),
            "column": IntSlider(width // 2, 0, width - 1, description="column (px)"),
            "size": IntSlider(min(8 * step, largest), step, largest, step, description="size (px)"),
            **{
                name: Dropdown(options=sensor.bands, value=sensor.bands[band], description=name)
                for name, band in colours.items()
            },
            "stretch": FloatRangeSlider(
                value=(1, 99), min=0, max=100, step=0.5, description="stretch (%)", readout_format=".1f"
            ),
            "against": Dropdown(options=against, value=against[last == "GT"], description="error from"),
            "spectrum_row": IntSlider(height // 2, 0, height - 1, description="pixel row"),
            "spectrum_column": IntSlider(width // 2, 0, width - 1, description="pixel col."),
            "shown": SelectMultiple(
                options=titles, value=chosen, description="shown", rows=min(10, len(titles))
            ),
        }

    @property
    def area(self) -> tuple[int, int, int]:
        """Top, left and side of what is seen, PAN px: around the centre, inside the scene, on whole LRMS px."""
        size, ratio = self["size"], self.scene.ratio
        sides = zip((self["row"], self["column"]), self.batch.pan.shape[-2:], strict=True)
        top, left = (min(max(centre - size // 2, 0), side - size) // ratio * ratio for centre, side in sides)
        return top, left, size

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
        """Absolute difference of the visible images to `against`, mean over bands (DN); empty for "nothing"."""
        if self["against"] == _NOTHING:
            return {}
        return {
            title: self._error_map(title, self["against"]) for title in self.visible if title in self._full
        }

    def _difference(self, title: str, against: str, step: int = 1) -> Float[Tensor, "_ _"]:
        image, reference = (self.images[name][:, ::step, ::step] for name in (title, against))
        return (error_map(image, reference) * self.scene.dn_max).float()

    def _limit(self, against: str) -> float:
        """End of the error scale: 99th percentile of all images but the reference; of large ones, of a grid."""
        step = ceil(max(self.batch.pan.shape[-2:]) / 256)
        others = [self._difference(title, against, step) for title in self._full if title != against]
        return float(np.percentile(torch.stack(others).numpy(), 99)) if others else 1.0

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

    def _numbers(self) -> str:
        top, left, size = self.area
        told = f"rows {top} to {top + size - 1}, columns {left} to {left + size - 1}"
        if self.scores.empty:
            return f"No metrics of {told}: no method is shown, or the scene has neither truth nor full resolution."
        table = mark_best(self.scores, BETTER, digits=3).rename(columns=header)
        return f"Metrics of {told} alone (* best). {CONVENTION}{scrolled(table)}"

    # What is seen of an image, at most about as fine as the screen

    def _reduced(self, seen: SingleImage) -> SingleImage:
        factor, screen = 1, _SCREEN[self["view"]]
        while seen.shape[-1] // (2 * factor) >= screen:
            factor *= 2
        return seen if factor == 1 else F.avg_pool2d(seen[None], factor)[0]

    def _picture(self, title: str) -> np.ndarray:
        cut = self._cut(title)
        stretch = self._grey if title == "PAN" else self.stretch
        seen = self._reduced(_enlarged(cut[list(stretch.bands)], self["size"]))
        shown = replace(stretch, bands=tuple(range(len(stretch.bands)))).apply(seen)
        return (shown * 255).round().astype(np.uint8)

    def _error(self, title: str, scale: ScalarMappable) -> np.ndarray:
        top, left, size = self.area
        errors = self.errors.get(title)
        if errors is None:  # LRMS and PAN have none: white
            side = self._reduced(torch.zeros(1, size, size)).shape[-1]
            return np.full((side, side, 4), 255, np.uint8)
        seen = errors[None, top : top + size, left : left + size]
        return scale.to_rgba(self._reduced(seen)[0].numpy(), bytes=True)

    def _mean_error(self, title: str) -> str:
        top, left, size = self.area
        if title not in self.errors:
            return "no error"
        return f"mean {self.errors[title][top : top + size, left : left + size].mean():.3g} DN"

    def _swiped(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        split = round(left.shape[1] * self["swipe"] / 100)
        return np.concatenate((left[:, :split], right[:, split:]), axis=1)

    # The figure

    def _layout(self) -> Hashable:
        return self["view"], self.visible, self["against"]

    def _build(self) -> tuple[Figure, Update]:
        if not self.visible:
            raise ValueError("nothing is shown: choose at least one image in `shown`")
        swipe, maps = self["view"] == "swipe", self["against"] != _NOTHING
        parts = places(1 if swipe else len(self.visible), maps, swipe)
        scale = ScalarMappable(Normalize(), colormaps["magma"])
        if maps:
            scale.set_clim(0.0, self._limit(self["against"]) or 1.0)
            label = f"absolute difference to {self['against']}, mean over bands (DN)"
            parts.figure.colorbar(scale, cax=parts.bar, orientation="horizontal", extend="max", label=label)
        panels = [Panel(ax) for ax in (*parts.pictures, *parts.errors)]
        spectra = Spectra(parts.plot, self.spectra, list(self.images))

        def both(make: Callable[[str], np.ndarray]) -> list[np.ndarray]:
            made = [make(title) for title in self.visible]
            return [self._swiped(*made)] if swipe else made

        def update() -> None:
            top, left, size = self.area
            parts.heading.set_text(self._heading())
            shown, titles = both(self._picture), list(self.visible)
            told = [self._mean_error(title) for title in titles]
            if maps:
                shown += both(lambda title: self._error(title, scale))
            if swipe:
                titles, told = [" | ".join(titles)], [" | ".join(told)]
            spot = ((self["spectrum_column"] + 0.5 - left) / size, (self["spectrum_row"] + 0.5 - top) / size)
            for panel, picture, title in zip(panels, shown, titles + told, strict=False):
                panel.show(picture, title)
                panel.mark(spot, self["swipe"] / 100 if swipe else -1.0)
            spectra.show(self.spectra, f"row {self['spectrum_row']}, column {self['spectrum_column']}")

        return parts.figure, update

    def _heading(self) -> str:
        top, left, size = self.area
        bands = ", ".join(self.scene.sensor.bands[band] for band in self.stretch.bands)
        low, high = self["stretch"]
        return (
            f"{self.scene.name}, {self.scene.sensor.name} ({bands}), rows {top} to {top + size - 1}, "
            f"columns {left} to {left + size - 1}; stretch {low:g} to {high:g} % of LRMS"
        )


def _images(batch: Batch, results: Mapping[str, Image | Method]) -> dict[str, SingleImage]:
    """All images in the order shown, without their batch axis."""
    taken = sorted({"LRMS", "PAN", "GT", _NOTHING} & set(results))
    if not results or taken:
        raise ValueError(
            f"results {list(results)}: give at least one method, and none named {taken or 'LRMS'}"
        )
    shape = (1, batch.lrms.shape[1], *batch.pan.shape[-2:])
    images = {"LRMS": batch.lrms, "PAN": batch.pan}
    for title, given in results.items():
        images[title] = given if isinstance(given, Tensor) else fuse(given, batch)
        if tuple(images[title].shape) != shape:
            raise ValueError(f"{title} has shape {tuple(images[title].shape)}; the scene's is {shape}")
    if batch.gt is not None:
        images["GT"] = batch.gt
    return {title: single(image, title).float() for title, image in images.items()}


def _enlarged(image: SingleImage, size: int) -> SingleImage:
    """LRMS pixels as squares of PAN pixels."""
    factor = size // image.shape[-1]
    return image.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
