"""Data: a manifest becomes a dataset, its scenes and its patches."""

from .manifest import Manifest, ManifestError, load_manifest
from .patches import Dataset, PatchSet, open_dataset
from .scene import Batch, DataError, Scene, wald

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
