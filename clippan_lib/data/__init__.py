"""Data: a manifest becomes a dataset, its scenes and its patches."""

from clippan_lib.data.manifest import Manifest, load_manifest
from clippan_lib.data.patches import Dataset, PatchSet, open_dataset
from clippan_lib.data.stacks import Batch, Scene, wald

__all__ = [
    "Batch",
    "Dataset",
    "Manifest",
    "PatchSet",
    "Scene",
    "load_manifest",
    "open_dataset",
    "wald",
]
