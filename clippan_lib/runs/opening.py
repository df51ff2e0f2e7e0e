"""The picture that a run's page opens with: inputs, best classical method, the run's own network, truth."""

import torch
from torch import Tensor

from clippan_lib import figures
from clippan_lib.data import Dataset, open_dataset
from clippan_lib.evaluation.scores import classical_methods, fuse
from clippan_lib.figures.page import Picture
from clippan_lib.fusion import CLASSICAL
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.runs.headline import Headline
from clippan_lib.runs.plan import Plan
from clippan_lib.runs.results import save_figure
from clippan_lib.runs.settings import as_configured

NAME = "report"
_SIDE = 96  # PAN px along one side of what is shown: cars and roofs are seen


def draw_opening(plan: Plan, found: Headline) -> None:
    """Keep the most detailed part of the first test scene as figures/report; nothing without the network's file.

    Args:
        plan: of the run.
        found: what is compared.
    """
    file = plan.place.network(found.resolution, found.ours, plan.seed)
    if not file.is_file():
        return
    trained = TrainedNetwork.load(file)
    dataset = _dataset(plan, trained)
    scene = dataset.scenes("test", found.resolution)[0]
    batch = scene.read().to(torch.device(plan.device))
    name = next(name for name, row in CLASSICAL.items() if row.title == found.rival)
    [classical] = classical_methods(dataset, [name]).values()
    images = {
        "LRMS (input)": batch.lrms,
        "PAN (input)": batch.pan,
        f"{found.rival} (best classical)": fuse(classical, batch),
        f"{found.ours} (this run)": fuse(trained.network.to(batch.pan.device), batch),
        **({} if batch.gt is None else {"truth": batch.gt}),
    }
    stretch = figures.fit_stretch(batch.lrms.cpu(), scene.sensor.rgb, (2, 98))
    detailed = (batch.pan if batch.gt is None else batch.gt).cpu()
    box = figures.pick_box(detailed, min(_SIDE, *batch.pan.shape[-2:]), scene.ratio)
    shown = {title: _cut(image.cpu(), box, batch.pan.shape[-1]) for title, image in images.items()}
    save_figure(plan.folder, NAME, figures.show_images(shown, scene.sensor, stretch, columns=len(shown)))


def opening_picture(plan: Plan, found: Headline) -> Picture | None:
    """What `draw_opening` kept, None if it kept nothing."""
    if not (plan.place.figures / f"{NAME}.png").is_file():
        return None
    caption = (
        f"The most detailed part of the first test scene at {found.resolution} resolution. "
        "All colour images have the same stretch, fitted to LRMS."
    )
    return Picture(f"figures/{NAME}.png", caption, f"figures/{NAME}.pdf")


def _dataset(plan: Plan, trained: TrainedNetwork) -> Dataset:
    """The scenes as the run saw them, with the gains that its networks were trained with."""
    dataset = open_dataset(plan.manifest, plan.data)
    if trained.sensor.gnyq != dataset.sensor.gnyq:
        dataset = dataset.through(trained.sensor.gnyq)
    return as_configured(dataset, plan.config, None)


def _cut(image: Tensor, box: tuple[int, int, int], width: int) -> Tensor:
    """The part of an image in a box of PAN pixels; `width` is that of PAN."""
    scale = width // image.shape[-1]
    top, left, side = (length // scale for length in box)
    return image[..., top : top + side, left : left + side]
