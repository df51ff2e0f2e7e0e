"""How far a fused pixel looks: the apron that a tile needs so that its core comes out as in the whole scene.

All in LRMS pixels, as a function of the ratio. A tile starts at a whole LRMS pixel.
"""


def of_fine(ratio: int, pixels: int) -> int:
    """Of an operation on PAN that looks `pixels` PAN pixels far."""
    return -(-pixels // ratio)


def of_lms(ratio: int, pixels: int = 0) -> int:
    """Of one that looks `pixels` PAN pixels far on what `mtf.upsample` gives."""
    half = {2: 11, 4: 33}.get(ratio, 2 * ratio - 1)  # of the impulse response
    return (pixels + half + ratio // 2) // ratio
