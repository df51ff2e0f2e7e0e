"""CLIPPan: unsupervised full-resolution pansharpening with CLIP as the supervisor."""

__version__ = "0.1.0"
