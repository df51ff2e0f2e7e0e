"""What the package ships: the embedded CLIP, weights and model card."""

EMBEDDED = "embedded"  # its name, for `load_clip`
