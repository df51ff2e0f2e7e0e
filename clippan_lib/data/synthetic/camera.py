"""What a sensor sees of a landscape: sun and shadow, light by wavelength, and the optics of each band."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from clippan_lib.data.synthetic.landscape import Canvas
from clippan_lib.data.synthetic.materials import spectra

PAN_ONLY_NM = np.array([510.0, 690.0, 775.0])


def _light(canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Direct sunlight on each pixel (0 in cast shadow, 1 on flat lit ground), and open sky seen."""
    azimuth, slope = canvas.rng.uniform(0, 2 * np.pi), np.tan(np.radians(canvas.rng.uniform(32, 60)))
    height, (dy, dx) = canvas.height, (np.sin(azimuth), np.cos(azimuth))
    reach = int(min(48, height.max() / slope)) + 1
    padded = np.pad(height, reach + 1)
    horizon, n = np.zeros_like(height), canvas.n
    for step in np.arange(1.5, reach, 1.5):
        y, x = reach + 1 + round(step * dy), reach + 1 + round(step * dx)
        np.maximum(horizon, padded[y : y + n, x : x + n] - np.float32(step * slope), out=horizon)
    shadow = np.clip((horizon - height) * 0.7, 0, 1)
    down, right = np.gradient(height)
    facing = np.clip((down * dy + right * dx) * np.float32(-0.8 / slope), -0.55, 0.35)
    return (1 - shadow) * (1 + facing), 1 - 0.3 * shadow


def expose(canvas: Canvas, nm: np.ndarray) -> np.ndarray:
    """Radiance at the wavelengths `nm` on the canvas, before any optics.

    Args:
        canvas: painted; twice as fine as PAN.
        nm: (k,) wavelengths in nanometres.
    Returns: (k, n, n) float32, as a fraction of full scale.
    """
    rng, n = canvas.rng, canvas.n
    mean, change = (table.astype(np.float32) for table in spectra(nm, rng))
    sun, sky = _light(canvas)
    grain = (
        1
        + 0.035 * rng.standard_normal((n, n), np.float32)
        + 0.03 * canvas.noise(1.2)
        + 0.035 * canvas.noise(30.0, 3)
    )
    tone, gain, haze = canvas.tone * grain, rng.uniform(0.8, 1.15), rng.uniform(0.5, 1.3)
    image = np.empty((len(nm), n, n), np.float32)
    for k, wavelength in enumerate(nm):
        blue = (480 / wavelength) ** 2
        skylight = np.float32(0.08 + 0.16 * blue)
        reflectance = mean[:, k].take(canvas.material) + change[:, k].take(canvas.material) * canvas.vigour
        seen = np.maximum(reflectance, 0.003) * tone * (sun * (1 - skylight) + skylight * sky)
        image[k] = 0.95 * gain * seen + haze * (0.012 + 0.07 * blue)
    return image


def through_pan(
    light: np.ndarray, nm: np.ndarray, centre: float = 640.0, width: float = 130.0, own: float = 0.25
) -> np.ndarray:
    """The light that PAN collects: a broad response over the bands, and light that no band records.

    Args:
        light: (k + 3, n, n), of `expose`; the last three at `PAN_ONLY_NM`.
        nm: (k,) wavelengths of the bands.
        centre, width: centre and width of the response, nanometres; nothing beyond 1000 is seen.
        own: share of the light that no band records.
    Returns: (1, n, n) float32.
    """
    response = np.exp(-0.5 * ((nm - centre) / width) ** 2) * (nm < 1000)
    bands = np.tensordot((response / response.sum()).astype(np.float32), light[: len(nm)], 1)
    return ((1 - own) * bands + own * light[len(nm) :].mean(0)).astype(np.float32)[None]


def see(light: np.ndarray, gains: Sequence[float]) -> np.ndarray:
    """Optics and detector: a Gaussian MTF, then every second pixel.

    Args:
        light: (k, 2n, 2n).
        gains: gain of the MTF at the Nyquist frequency of the (n, n) image, one per plane, in (0, 1).
    Returns: (k, n, n) float32.
    """
    # on the fine grid, where the Gaussian is wide enough to be sampled
    sigmas = [2 * np.sqrt(-2 * np.log(gain)) / np.pi for gain in gains]
    seen = [
        gaussian_filter(plane, sigma, mode="nearest")[::2, ::2]
        for plane, sigma in zip(light, sigmas, strict=True)
    ]
    return np.stack(seen)
