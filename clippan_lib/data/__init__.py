"""Data: a manifest becomes a dataset, its scenes and its patches."""

from clippan_lib.data.manifest import Manifest, ManifestError, load_manifest
from clippan_lib.data.patches import Dataset, PatchSet, open_dataset
from clippan_lib.data.scene import Batch, DataError, Scene, wald

__all__ = [
    "Batch",
    "DataError",
    "Dataset",
    "Manifest",
    "ManifestError",
    "PatchSet",
    "Scene",
    "load_manifest",
    "open_dataset",
    "wald",
]
