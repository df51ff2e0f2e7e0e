"""Where to compute."""

import torch


def find_device(device: str) -> str:
    """The device that "auto", "cpu" or "cuda" means here.

    Raises: ValueError if it asks for a GPU and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU here; use --device cpu")
    return device
