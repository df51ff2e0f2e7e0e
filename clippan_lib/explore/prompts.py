"""Type a text: how far do true fusions move in its direction, and do spoiled ones less?"""

from dataclasses import dataclass
from functools import cache
from html import escape
from textwrap import shorten

import pandas as pd
import torch
from ipywidgets import Text, ToggleButtons
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from clippan_lib.clip import Supervisor
from clippan_lib.clip.prompts import PROMPTS, get_prompts
from clippan_lib.evaluation import protocol
from clippan_lib.evaluation.protocol import TRUE, Fusions, Step
from clippan_lib.explore.base import Explorer, scrolled
from clippan_lib.explore.embedding import BEFORE_AFTER
from clippan_lib.explore.plot import Plot, Update, built
from clippan_lib.figures.style import PALETTE, new_figure
from clippan_lib.fusion import get_method
from clippan_lib.runs.run import Run

YOURS, NO_AIM = "your text", "no aim at all"
_FUSED_BY = "mtf_glp_hpm_r"  # never seen by Stage I
_TAILS = torch.tensor([0.05, 0.95], dtype=torch.float64)
_RANDOM = 1000  # directions that stand for chance


@dataclass
class Judge:
    """What one supervisor says of texts.

    Args:
        stage: of `BEFORE_AFTER`.
        supervisor: before or after Stage I.
        fusions: of held-out patches, embedded once.
        chance: share won by random directions.
        steps: of the stored prompt sets, and under `NO_AIM` that without any.
        texts: the steps of texts typed so far.
    """

    stage: str
    supervisor: Supervisor
    fusions: Fusions
    chance: Float[Tensor, " r"]
    steps: dict[str, Step]
    texts: dict[str, Step]

    def step(self, text: str) -> Step:
        """The steps from the supervisor's LRMS and PAN texts to this aim; encoded once.

        Raises: ValueError if it is blank or equal to one of those two.
        """
        if text not in self.texts:
            given = protocol.describe({YOURS: text}, self.supervisor.prompts)
            self.texts[text] = protocol.text_steps(self.supervisor, given)[YOURS]
        return self.texts[text]


class PromptExplorer(Explorer):
    """See `prompts`."""

    def __init__(self, run: Run, text: str, strength: float) -> None:
        """
        Args:
            run: from `open_run`.
            text: of the aim, to begin with.
            strength: of the spoilings.
        """
        self.run, self.strength = run, strength
        self.patches = run.patches("test", "full")
        self.base = get_prompts(run.config.prompts)
        self._judge = cache(self._make)
        adapted = run.layout.supervisor().is_file()
        controls = {
            "text": Text(
                text,
                description="the aim",
                placeholder="what a fused image is; Enter shows it",
                continuous_update=False,
            ),
            "stage": ToggleButtons(
                options=BEFORE_AFTER,
                value=BEFORE_AFTER[adapted],
                description="stage",
                style={"button_width": "auto"},
            ),
        }
        self._plot = Plot(self._build)
        super().__init__(controls, [self._plot.widget])

    def _draw(self) -> None:
        self._plot.draw()

    def _print(self) -> Figure:
        return built(self._build)[0]

    def _make(self, stage: str) -> Judge:
        before = stage == BEFORE_AFTER[0]
        supervisor = self.run.new_supervisor(adapted=False) if before else self.run.adapted_supervisor()
        fuse, seed = get_method(_FUSED_BY, self.patches.sensor, self.patches.ratio), self.run.seed
        dense = self.run.config.guidance == "dense"
        with self.working(f"embedding true and spoiled fusions of {len(self.patches)} patches {stage}"):
            fusions = protocol.embed_fusions(supervisor, self.patches, fuse, self.strength, seed, dense=dense)
        stored = PROMPTS | {self.base.name: self.base}
        steps = protocol.text_steps(supervisor, stored.values()) | {NO_AIM: protocol.no_aim(supervisor)}
        chance = protocol.share_won(protocol.random_steps(_RANDOM, supervisor.towers.dim, seed), fusions)
        return Judge(stage, supervisor, fusions, chance, steps, {})

    def _settle(self) -> None:
        judge, text, seed = self._judge(self["stage"]), self["text"].strip(), self.run.seed
        steps = {YOURS: judge.step(text), **judge.steps}
        table = protocol.rank(steps, judge.fusions, judge.chance, seed=seed).loc[list(steps)]
        spread = protocol.agreement(torch.stack([*steps.values()]), judge.fusions.steps[TRUE])
        table["agreement_low"], table["agreement_high"] = spread.quantile(_TAILS, dim=1).numpy()
        leads = protocol.against(self.base.name, steps, judge.fusions, seed=seed).reindex(table.index)
        self.judge, self.text = judge, text
        self.table = table.assign(lead=leads["lead"], lead_low=leads["low"], lead_high=leads["high"])

    def _build(self) -> tuple[Figure, Update]:
        names = list(self.table.index)
        figure = new_figure(1.9 + 0.27 * len(names))
        axes = figure.subplots(1, 2, sharey=True)
        rows = {
            (column, name): _mark(ax, place, name)
            for ax, column in zip(axes, ("agreement", "wins"), strict=True)
            for place, name in enumerate(names)
        }
        band = _dress(*axes, names)
        title = figure.suptitle(" \n ", wrap=True, parse_math=False)

        def update() -> None:
            for (column, name), (line, dot) in rows.items():
                values = self.table.loc[name]
                line.set_xdata(values[[f"{column}_low", f"{column}_high"]])
                dot.set_xdata([values[column]])
            low, high = self.judge.chance.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
            band.set_x(low)
            band.set_width(high - low)
            count = len(self.judge.fusions.scenes)
            title.set_text(f"{self.judge.stage}, {count} held-out patches\n“{shorten(self.text, 90)}”")

        return figure, update

    def _numbers(self) -> str:
        shown = pd.DataFrame(
            {
                "agreement (90 % of the patches)": self._interval("agreement"),
                "true fusion preferred (95 % interval)": self._interval("wins"),
                f"lead over {self.base.name} (95 % interval)": self._interval("lead"),
            }
        )
        inputs = self.judge.supervisor.prompts
        note = f"The steps start at “{inputs.lrms}” and “{inputs.pan}”."
        return scrolled(shown) + escape(note)

    def _interval(self, name: str) -> pd.Series:
        columns = self.table[[name, f"{name}_low", f"{name}_high"]]
        texts = [f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in columns.to_numpy()]
        return pd.Series(texts, columns.index).where(columns[name].notna(), "")


def _mark(ax: Axes, place: int, name: str) -> tuple[Line2D, Line2D]:
    """The line and the dot of one candidate, still without values."""
    colour = {YOURS: PALETTE[3], NO_AIM: PALETTE[7]}.get(name, PALETTE[0])
    (line,) = ax.plot([0, 0], [place, place], color=colour, linewidth=2)
    (dot,) = ax.plot([0], [place], "D" if name == YOURS else "o", color=colour, markersize=6)
    return line, dot


def _dress(left: Axes, right: Axes, names: list[str]) -> Rectangle:
    """Scales and labels of agreement and wins; what is returned is the band of random directions."""
    band = right.axvspan(0, 1, color="0.92", linewidth=0, zorder=0)
    for ax, middle in zip((left, right), (0, 0.5), strict=True):
        ax.axvline(middle, color="black", linewidth=0.8, zorder=1)
    left.set(
        xlim=(-1, 1), xlabel="agreement with true fusions (cosine)\nline: 90 % of the patches, dot: mean"
    )
    right.set(
        xlim=(0, 1),
        xlabel="true fusion preferred to a spoiled one\nline: 95 % interval; grey: 95 % of random directions",
    )
    right.xaxis.set_major_formatter(PercentFormatter(1))
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    return band


def prompts(
    run: Run, text: str = "a sharp and colourful satellite image", strength: float = 1.0
) -> PromptExplorer:
    """What CLIP makes of a text of the aim, beside the stored prompt sets: 07_protocol_lab, one text at a time.

    Left, the agreement of the text's steps with the steps from LRMS and PAN to the true fusion of held-out patches
    (1 - L_d of Eq. 6, CLIPPan); right, how often the true fusion agrees better than a spoiled one, which is what makes
    a text useful: a text may agree with everything. "no aim at all" points straight away from the LRMS and PAN texts.
    Patches are embedded once per stage and every text once. The true fusion is the scene's own ground truth, or
    MTF-GLP-HPM-R where there is none.

    Args:
        run: from `open_run`; of its stages only 02_stage1_adaptation is needed, for the answer after Stage I.
        text: of the aim, to begin with; the LRMS and PAN texts are the run's own.
        strength: of the spoilings, see `protocol.spoil`.
    Returns: the explorer; controls: text and stage; `table` holds the numbers.
    Raises: ValueError, of the control too, on a blank text or one that equals the LRMS or the PAN text; the control
        stage raises MissingStage without Stage I.
    """
    return PromptExplorer(run, text, strength)
