"""CLIP's space as a map of patches: choose a point, see its patch and what lies next to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from html import escape
from typing import Any

import numpy as np
import torch
from ipywidgets import Button, HBox, IntSlider, Layout, ToggleButtons
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from clippan_lib.data import PatchSet
from clippan_lib.evaluation.embedding import TYPES, Embeddings, embed_patches, embedding_scores, layout
from clippan_lib.explore.base import Explorer
from clippan_lib.explore.canvas import Canvas, Frame, Tile, points
from clippan_lib.figures.images import draw
from clippan_lib.figures.stretch import Stretch, fit_stretch
from clippan_lib.figures.style import BOX, PALETTE, new_figure
from clippan_lib.runs.run import Run

BEFORE_AFTER = ("before Stage I", "after Stage I")
COLOURS = ("type", "scene")
_MARKERS = ("o", "s", "^")
_AXES = "t-SNE, per cent of the map\n(distances between clusters mean nothing)"
_SIDE = 100.0  # of the map
_EXTENT = 108  # of the canvas: the map with a margin
_SHAPES = ("circle", "square", "triangle")  # of a canvas, in the order of `_MARKERS`


def square(plane: Float[np.ndarray, "b 2"]) -> Float[np.ndarray, "b 2"]:
    """A layout moved and scaled into the square from 0 to 100, its shape kept, its longer side filling it."""
    low, high = plane.min(0), plane.max(0)
    return _SIDE / 2 + (plane - (low + high) / 2) * _SIDE / (high - low).max()


def nearest_others(embeddings: Embeddings, row: int) -> dict[int, tuple[int, float]]:
    """The nearest image of each other type, by cosine in CLIP's space (not on the map).

    Args:
        embeddings: of patches.
        row: of `embeddings`.
    Returns: index of the type to the row of its nearest image and the cosine.
    """
    cosine = embeddings.features.double() @ embeddings.features[row].double()
    others = {}
    for kind in sorted(set(range(len(TYPES))) - {int(embeddings.types[row])}):
        best = int(cosine.masked_fill(embeddings.types != kind, -torch.inf).argmax())
        others[kind] = best, float(cosine[best])
    return others


@dataclass(frozen=True)
class Map:
    """The embeddings of one stage.

    Args:
        stage: of `BEFORE_AFTER`.
        embeddings: rows are all LRMS, then all PAN, then all HRMS of the same patches.
        plane: (3n, 2), where each lies, from 0 to 100.
        scores: of `embedding_scores`.
    """

    stage: str
    embeddings: Embeddings
    plane: Float[np.ndarray, "b 2"]
    scores: dict[str, float]


class EmbeddingExplorer(Explorer):
    """See `embedding`."""

    def __init__(self, run: Run, most: int) -> None:
        """
        Args:
            run: from `open_run`.
            most: patches on the map.
        """
        self.run, self.most = run, most
        self.patches: PatchSet = run.patches("test", "full")
        self._map = cache(self._make)
        self._images = lru_cache(maxsize=64)(self._read)
        adapted = run.layout.supervisor().is_file()
        count = min(most, len(self.patches))
        if count < 2:
            raise ValueError(f"{count} patches (most={most}): a map needs two or more")
        controls = {
            "stage": ToggleButtons(
                options=BEFORE_AFTER,
                value=BEFORE_AFTER[adapted],
                description="stage",
                style={"button_width": "auto"},
            ),
            "colour": ToggleButtons(options=COLOURS, description="colour by", style={"button_width": "auto"}),
            "type": ToggleButtons(options=TYPES, description="point", style={"button_width": "auto"}),
            "patch": IntSlider(1, 1, count, description="patch"),
        }
        side = self.patches.size * self.patches.ratio
        self.plane = Canvas((_EXTENT, _EXTENT), (_EXTENT // 12, _EXTENT, 2), share=0.6)
        self.shown = Canvas((side, side), (side, side, 1), share=0.55)
        self.plane.layout.width, self.shown.layout.width = "45%", "54%"
        self.plane.observe(self._closer, names="wanted")
        self.plane.on_msg(lambda _, content, __: self._answer(content))
        self._looked, self.chosen = (0, 0, _EXTENT), ()
        buttons = [Button(description=label, layout=Layout(width="auto")) for label in ("previous", "next")]
        for step, button in zip((-1, 1), buttons, strict=True):
            button.on_click(lambda _, step=step: self.step(step))
        pictures = HBox([self.plane, self.shown], layout=Layout(justify_content="space-between"))
        super().__init__(controls, [pictures], buttons=buttons)

    def step(self, count: int) -> None:
        """Go on by so many patches, round the end."""
        self.set(patch=(self["patch"] - 1 + count) % self.controls["patch"].max + 1)

    def _make(self, stage: str) -> Map:
        before = stage == BEFORE_AFTER[0]
        supervisor = self.run.new_supervisor(adapted=False) if before else self.run.adapted_supervisor()
        with self.working(f"embedding {min(self.most, len(self.patches))} patches {stage}"):
            embeddings = embed_patches(supervisor, self.patches, self.run.hrms, self.most)
            perplexity = min(30.0, len(embeddings.types) / 6)
            plane = square(layout(embeddings.features, perplexity, self.run.seed))
        return Map(stage, embeddings, plane, embedding_scores(embeddings))

    def pick(self, row: int) -> None:
        """Choose the point of a row of the embeddings."""
        kind, patch = divmod(row, self.controls["patch"].max)
        self.set(type=TYPES[kind], patch=patch + 1)

    def lasso(self, rows: Sequence[int]) -> None:
        """Show these points of the map alone, and count them; no rows: all of them."""
        self.chosen = tuple(rows)
        self.redraw()

    def _closer(self, change: Mapping[str, Any]) -> None:
        self._looked = tuple(change["new"][1:])
        self.plane.view = change["new"]

    def _answer(self, content: dict[str, Any]) -> None:
        if content["kind"] == "pick":
            self.pick(content["point"])
        elif content["kind"] == "lasso":
            self.lasso(content["points"])
        elif content["kind"] == "step":
            self.step(content["by"])
        elif content.get("point") is not None:
            self.plane.say(self._name(content["point"]))

    def _name(self, row: int) -> str:
        kind, patch = divmod(row, self.controls["patch"].max)
        return f"{TYPES[kind]} of patch {patch + 1}, scene {self.patches.stack.names[self._scenes[row]]}"

    @property
    def row(self) -> int:
        """Of the point chosen, in the embeddings."""
        return TYPES.index(self["type"]) * self.controls["patch"].max + self["patch"] - 1

    def images(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        """LRMS (1, c, h, w), PAN (1, 1, H, W) and HRMS (1, c, H, W) of the patch that a row shows."""
        return self._images(int(self.map.embeddings.patches[row]))

    def _read(self, patch: int) -> tuple[Tensor, Tensor, Tensor]:
        batch = self.patches.batch([patch]).to(self.run.device)
        hrms = self.run.hrms(batch)
        return batch.lrms.cpu(), batch.pan.cpu(), hrms.cpu()

    @cached_property
    def _stretches(self) -> tuple[Stretch, Stretch]:
        """One for all multispectral patches and one for all PAN patches, so that any two can be compared."""
        batch = self.patches.batch(self.map.embeddings.patches[: self.controls["patch"].max])
        tall = (image.transpose(0, 1).flatten(1, 2) for image in (batch.lrms, batch.pan))
        bands = self.patches.sensor.rgb, (0,)
        return tuple(fit_stretch(image, chosen) for image, chosen in zip(tall, bands, strict=True))

    @cached_property
    def _scenes(self) -> list[int]:
        """Which scene the patch of each row was cut from."""
        return [self.patches.scene_of(patch) for patch in self.map.embeddings.patches.tolist()]

    def _settle(self) -> None:
        self.map = self._map(self["stage"])

    def _colours(self) -> tuple[np.ndarray, dict[str, tuple]]:
        """The colour of every row, and the legend."""
        if self["colour"] == "type":
            values, names, palette = self.map.embeddings.types.tolist(), TYPES, PALETTE
        else:
            values, names = self._scenes, self.patches.stack.names
            many = colormaps["viridis"](np.linspace(0, 1, len(names)))
            palette = PALETTE if len(names) <= len(PALETTE) else many
        shown = {names[value]: to_rgba(palette[value]) for value in sorted(set(values))}
        return np.array([to_rgba(palette[value]) for value in values]), shown

    def _draw(self) -> None:
        neighbours = nearest_others(self.map.embeddings, self.row)
        colours, _ = self._colours()
        # Rows of a canvas go down, those of a map up
        across = (self.map.plane - _SIDE / 2) * (1, -1) + _EXTENT / 2
        shapes = [_SHAPES[kind] for kind in self.map.embeddings.types.tolist()]
        ring = [self.row, *(row for row, _ in neighbours.values())]
        shown = points(across, [to_hex(colour) for colour in colours], shapes, self.chosen, ring)
        note = "t-SNE: distances between clusters mean nothing"
        self.plane.show([Frame(self.map.stage, note, points=shown)], self._looked)
        side = self.patches.size * self.patches.ratio
        still = (0, 0, side)
        frames = []
        for row, titles in ((self.row, self._titles()), *self._rows(neighbours)):
            for kind, (name, note) in titles.items():
                tiles = {(kind, int(self.map.embeddings.patches[row])): partial(self._tile, kind, row)}
                own = row == self.row and TYPES[kind] == self["type"]
                frames.append(Frame(name, note, tiles, still, marked=own))
        self.shown.show(frames, still)

    def _titles(self) -> dict[int, tuple[str, str]]:
        """Type to title and note of the chosen point's patch."""
        return {kind: (name, f"patch {self['patch']}") for kind, name in enumerate(TYPES)}

    def _rows(self, neighbours: dict[int, tuple[int, float]]) -> list[tuple[int, dict[int, tuple[str, str]]]]:
        """Row, and its type to title and note, of the nearest image of each other type."""
        return [
            (row, {kind: (f"nearest {TYPES[kind]}", f"{self._whose(row)}, cosine {cosine:.2f}")})
            for kind, (row, cosine) in neighbours.items()
        ]

    def _tile(self, kind: int, row: int) -> Tile:
        side = self.patches.size * self.patches.ratio
        return Tile((self._display(kind, row) * 255).round().astype(np.uint8), (0, 0, side, side))

    def _print(self) -> Figure:
        figure = new_figure(5.8)
        grid = figure.add_gridspec(2, 4, width_ratios=(3.6, 1, 1, 1))
        neighbours = nearest_others(self.map.embeddings, self.row)
        self._draw_map(figure, figure.add_subplot(grid[:, 0]), [row for row, _ in neighbours.values()])
        for line, (row, titles) in enumerate(((self.row, self._titles()), *self._rows(neighbours))):
            for kind, title in titles.items():
                ax = figure.add_subplot(grid[min(line, 1), 1 + kind])
                ax.set_title("\n".join(title))
                side = self.patches.size * self.patches.ratio
                draw(ax, self._display(kind, row), (side, side))
                if row == self.row and TYPES[kind] == self["type"]:
                    ax.spines[:].set(edgecolor=BOX, linewidth=3)
        figure.suptitle(self._title())
        return figure

    def _draw_map(self, figure: Figure, ax: Axes, neighbours: list[int]) -> None:
        """Points and legend; the chosen one and these rows are marked."""
        (colours, shown), plane = self._colours(), self.map.plane
        full = np.isin(np.arange(len(plane)), self.chosen) | (not self.chosen)
        for kind, marker in enumerate(_MARKERS):
            mine = (self.map.embeddings.types == kind).numpy()
            alpha = np.where(full[mine], 0.75, 0.15)
            ax.scatter(*plane[mine].T, s=24, c=colours[mine], marker=marker, alpha=alpha, linewidth=0)
        ax.set(xlim=(-4, 104), ylim=(-4, 104), aspect="equal", xlabel=_AXES)
        for other in neighbours:
            ax.plot(*plane[[self.row, other]].T, color="black", linewidth=0.8)
        ring = {"marker": "o", "linestyle": "", "markerfacecolor": "none"}
        ax.plot(*plane[[self.row]].T, markersize=13, markeredgecolor="black", **ring)
        ax.plot(*plane[neighbours].T, markersize=9, markeredgecolor="0.35", **ring)
        self._legend(figure, shown)

    def _legend(self, figure: Figure, shown: dict[str, tuple]) -> None:
        """Markers tell the types; colours what was chosen. Of many scenes the first and the last are named."""
        handles = []
        for kind, marker in enumerate(_MARKERS):
            colour = shown[TYPES[kind]] if self["colour"] == "type" else "0.4"
            handles.append(Line2D([], [], linestyle="", marker=marker, color=colour, label=TYPES[kind]))
        if self["colour"] == "scene":
            names = [*shown] if len(shown) <= len(PALETTE) else [[*shown][0], [*shown][-1]]
            handles += [
                Line2D([], [], linestyle="", marker="D", color=shown[name], label=name) for name in names
            ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)

    def _display(self, kind: int, row: int) -> np.ndarray:
        return self._stretches[kind == 1].apply(self.images(row)[kind])

    def _whose(self, row: int) -> str:
        patch = row % self.controls["patch"].max + 1
        return "the same patch" if patch == self["patch"] else f"patch {patch}"

    def _title(self) -> str:
        scores, patch = self.map.scores, self["patch"]
        scene = self.patches.stack.names[self._scenes[self.row]]
        return (
            f"{self.map.stage}: silhouette of the types {scores['silhouette']:.2f}, same scene nearest in "
            f"{scores['same_scene_retrieval']:.1%} (chance {scores['same_scene_chance']:.1%})\n"
            f"chosen: {self['type']} of patch {patch}, scene {scene}"
        )

    def _numbers(self) -> str:
        shown = {
            "zero-shot accuracy": "zero_shot_accuracy",
            "silhouette of the types": "silhouette",
            "same-scene retrieval": "same_scene_retrieval",
            "its chance": "same_scene_chance",
            "variance within a type": "within_type_variance",
        }
        scores = "; ".join(f"{name} {self.map.scores[key]:.3f}" for name, key in shown.items())
        told = f"<b>{escape(self.map.stage)}</b>: {scores}<br>chosen: {escape(self._name(self.row))}; {self._key()}"
        if self.chosen:
            kinds = self.map.embeddings.types[list(self.chosen)].tolist()
            counts = ", ".join(f"{kinds.count(kind)} {name}" for kind, name in enumerate(TYPES))
            told += f"<br>{len(self.chosen)} points in the lasso: {counts}"
        return told

    def _key(self) -> str:
        """What shapes and colours mean."""
        shapes = ", ".join(f"{mark} {name}" for mark, name in zip("●■▲", TYPES, strict=True))
        _, shown = self._colours()
        colours = ", ".join(
            f'<span style="color:{to_hex(colour)}">■</span> {escape(name)}' for name, colour in shown.items()
        )
        return f"shapes: {shapes}; colours: {colours}"


def embedding(run: Run, most: int = 300) -> EmbeddingExplorer:
    """CLIP's space of held-out patches as a map, before and after Stage I (the paper's t-SNE figure).

    The chosen point's patch is shown as LRMS, PAN and HRMS, and below them the nearest image of each other type in the
    space itself. A click on a point chooses it. Shift and a drag around points count them. A drag moves the map, the
    wheel zooms, and arrow keys go to the patch before or after. All multispectral patches share one stretch, and so do
    all of PAN. The HRMS is Stage I's classical method, as in 03_embeddings.

    Args:
        run: from `open_run`; of its stages only 02_stage1_adaptation is needed, for the map after Stage I.
        most: patches on the map, evenly thinned out.
    Returns: the explorer; controls: stage, colour, type and patch.
    Raises: ValueError with fewer than two patches; the control stage raises MissingStage without Stage I.
    """
    return EmbeddingExplorer(run, most)
