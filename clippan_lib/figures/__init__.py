"""Pictures of scenes, training and embeddings: each returns a matplotlib figure, none shows it."""

from clippan_lib.figures.comparison import zooms
from clippan_lib.figures.images import patch_grid, show_images, split_map
from clippan_lib.figures.optics import optics_curve, power_spectra
from clippan_lib.figures.plots import (
    histograms,
    mtf_kernels,
    quality_and_speed,
    scatter_embeddings,
    similarity_matrix,
)
from clippan_lib.figures.protocol import protocol_ranking, protocol_spoilings, steering
from clippan_lib.figures.scenes import scene_overview
from clippan_lib.figures.stretch import Stretch, error_map, error_table, fit_stretch, pick_box
from clippan_lib.figures.style import COLUMN, WIDTH
from clippan_lib.figures.tables import best_in_bold, difference_table, mark_best, paired_differences
from clippan_lib.figures.trainings import curves

__all__ = [
    "COLUMN",
    "WIDTH",
    "Stretch",
    "best_in_bold",
    "curves",
    "difference_table",
    "error_map",
    "error_table",
    "fit_stretch",
    "histograms",
    "mark_best",
    "mtf_kernels",
    "optics_curve",
    "paired_differences",
    "patch_grid",
    "pick_box",
    "power_spectra",
    "protocol_ranking",
    "protocol_spoilings",
    "quality_and_speed",
    "scatter_embeddings",
    "scene_overview",
    "show_images",
    "similarity_matrix",
    "split_map",
    "steering",
    "zooms",
]
