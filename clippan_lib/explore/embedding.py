"""CLIP's space as a map of patches: choose a point, see its patch and what lies next to it."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from html import escape

import numpy as np
import torch
from ipywidgets import Button, IntSlider, Layout, Text, ToggleButtons
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from torch import Tensor

from clippan_lib.data import PatchSet
from clippan_lib.evaluation.embedding import TYPES, Embeddings, embed_patches, embedding_scores, layout
from clippan_lib.explore.base import Explorer, Update
from clippan_lib.figures.images import draw
from clippan_lib.figures.stretch import Stretch, fit_stretch
from clippan_lib.figures.style import BOX, PALETTE, new_figure
from clippan_lib.runs.run import Run

BEFORE_AFTER = ("before Stage I", "after Stage I")
COLOURS = ("type", "scene")
_MARKERS = ("o", "s", "^")
_AXES = "t-SNE, per cent of the map\n(distances between clusters mean nothing)"
_SIDE = 100.0  # of the map


def square(plane: Float[np.ndarray, "b 2"]) -> Float[np.ndarray, "b 2"]:
    """A layout moved and scaled into the square from 0 to 100, its shape kept, its longer side filling it."""
    low, high = plane.min(0), plane.max(0)
    return _SIDE / 2 + (plane - (low + high) / 2) * _SIDE / (high - low).max()


def nearest_point(plane: Float[np.ndarray, "b 2"], x: float | int, y: float | int) -> int:
    """The row of a layout that lies nearest to a place; the first of equal ones."""
    return int(((plane - (x, y)) ** 2).sum(1).argmin())


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


def place(text: str) -> tuple[float, float]:
    """Two numbers in a text, "x, y".

    Raises: ValueError if it holds anything else.
    """
    try:
        x, y = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ValueError(
            f"nearest to {text!r}: give two numbers, x and y on the map, such as 20, 75"
        ) from None
    return x, y


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
            "patch": IntSlider(1, 1, count, description="patch", layout=Layout(width="360px")),
            "near": Text(description="nearest to", placeholder="x, y on the map", continuous_update=False),
        }
        super().__init__(controls)
        for step, label in ((-1, "previous"), (1, "next")):
            button = Button(description=label, layout=Layout(width="auto"))
            button.on_click(lambda _, step=step: self.step(step))
            self.widget.children[0].children += (button,)

    def step(self, count: int) -> None:
        """Go on by so many patches, round the end."""
        self.set(patch=(self["patch"] - 1 + count) % self.controls["patch"].max + 1)

    def _make(self, stage: str) -> Map:
        before = stage == BEFORE_AFTER[0]
        supervisor = self.run.new_supervisor(adapted=False) if before else self.run.adapted_supervisor()
        embeddings = embed_patches(supervisor, self.patches, self.run.hrms, self.most)
        perplexity = min(30.0, len(embeddings.types) / 6)
        plane = square(layout(embeddings.features, perplexity, self.run.seed))
        return Map(stage, embeddings, plane, embedding_scores(embeddings))

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
        wanted, near = self["near"], self.controls["near"]
        near.value = ""  # obeyed once, so that it holds no other control back
        self.map = self._map(self["stage"])
        if wanted.strip():
            row = nearest_point(self.map.plane, *place(wanted))
            kind, patch = divmod(row, self.controls["patch"].max)
            self.controls["type"].value, self.controls["patch"].value = TYPES[kind], patch + 1

    def _layout(self) -> Hashable:
        return self["colour"]

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

    def _build(self) -> tuple[Figure, Update]:
        figure = new_figure(5.8)
        grid = figure.add_gridspec(2, 4, width_ratios=(3.6, 1, 1, 1))
        cells = [
            [figure.add_subplot(grid[line, 1 + kind]) for kind in range(len(TYPES))] for line in range(2)
        ]
        pictures = [[self._picture(ax, kind) for kind, ax in enumerate(line)] for line in cells]
        move = self._draw_map(figure, figure.add_subplot(grid[:, 0]))
        title = figure.suptitle(" \n ")

        def update() -> None:
            title.set_text(self._title())
            neighbours = nearest_others(self.map.embeddings, self.row)
            move([row for row, _ in neighbours.values()])
            for kind, name in enumerate(TYPES):
                pictures[0][kind].set_data(self._display(kind, self.row))
                own, (frame, other) = name == self["type"], (line[kind] for line in cells)
                frame.title.set_text(name)
                frame.spines[:].set(edgecolor=BOX if own else "black", linewidth=3 if own else 0.8)
                other.set_visible(not own)
            for kind, (row, cosine) in neighbours.items():
                pictures[1][kind].set_data(self._display(kind, row))
                cells[1][kind].title.set_text(f"nearest {TYPES[kind]}\n{self._whose(row)}, cos {cosine:.2f}")

        return figure, update

    def _draw_map(self, figure: Figure, ax: Axes) -> Callable[[list[int]], None]:
        """Points and legend; what is returned takes them to the stage shown and marks the chosen one and these rows."""
        colours, shown = self._colours()
        own = [(self.map.embeddings.types == kind).numpy() for kind in range(len(TYPES))]
        points = [
            ax.scatter(*self.map.plane[mine].T, s=24, c=colours[mine], marker=marker, alpha=0.75, linewidth=0)
            for mine, marker in zip(own, _MARKERS, strict=True)
        ]
        ax.set(xlim=(-4, 104), ylim=(-4, 104), aspect="equal", xlabel=_AXES)
        (tie,) = ax.plot([], [], color="black", linewidth=0.8)
        (ring,) = ax.plot([], [], "o", markersize=13, markerfacecolor="none", markeredgecolor="black")
        (rings,) = ax.plot([], [], "o", markersize=9, markerfacecolor="none", markeredgecolor="0.35")
        self._legend(figure, shown)

        def move(neighbours: list[int]) -> None:
            plane = self.map.plane
            for mine, each in zip(own, points, strict=True):
                each.set_offsets(plane[mine])
            tie.set_data(*plane[[neighbours[0], self.row, neighbours[1]]].T)
            ring.set_data(*plane[[self.row]].T)
            rings.set_data(*plane[neighbours].T)

        return move

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

    def _picture(self, ax: Axes, kind: int) -> AxesImage:
        ax.set_title("nearest PAN\nthe same patch")  # room for the longest
        side = self.patches.size * self.patches.ratio
        return draw(ax, self._display(kind, self.row), (side, side))

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
        x, y = self.map.plane[self.row]
        return f"<b>{escape(self.map.stage)}</b>: {scores}<br>chosen point at ({x:.0f}, {y:.0f}) on the map"


def embedding(run: Run, most: int = 300) -> EmbeddingExplorer:
    """CLIP's space of held-out patches as a map, before and after Stage I (the paper's t-SNE figure).

    The chosen point's patch is shown as LRMS, PAN and HRMS, and below them the nearest image of each other type in the
    space itself. A point is chosen by patch and type, or as the one nearest to x, y on the map: ipywidgets' pictures
    do not tell where they are clicked. All multispectral patches share one stretch, and so do all of PAN. The HRMS is
    Stage I's classical method, as in 03_embeddings.

    Args:
        run: from `open_run`; of its stages only 02_stage1_adaptation is needed, for the map after Stage I.
        most: patches on the map, evenly thinned out.
    Returns: the explorer; controls: stage, colour, type, patch and near.
    Raises: ValueError with fewer than two patches; the control stage raises MissingStage without Stage I.
    """
    return EmbeddingExplorer(run, most)
