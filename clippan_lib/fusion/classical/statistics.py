"""Means, deviations, covariances and percentiles of a scene, per band: requests of `stages`, and of one image."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from clippan_lib.fusion.classical.stages import Core, Images
from clippan_lib.shapes import Image

PerBand = Float[Tensor, "b c 1 1"]
Batched = Float[Tensor, "b ..."]
Matrix = Float64[Tensor, "b _ _"]

# values that are summed at a time: as float64 they stay in the cache
_CHUNK = 2**19
# pixels whose products are one small matrix product: of two long thin matrices it takes twice as long
_PIXELS = 1024

# of a divisor's root mean square; on the toolbox's reference images no divisor is below 0.098 of it
_FLOOR = 1 / 12
# times the usual gain; on the same images 4.9
_LIMIT = 5


def quotient_or_zero(numerator: Batched, denominator: Batched) -> Batched:
    """Their quotient, broadcast; 0 where the denominator is 0."""
    return numerator / denominator.masked_fill(denominator == 0, torch.inf)


def modulation(
    band: Image,
    divisor: Float[Tensor, "b _ H W"],
    contrast: PerBand,
    mean: Float[Tensor, "b _ 1 1"],
    deviation: Float[Tensor, "b _ 1 1"],
) -> Image:
    """A band over an image, by which a ratio method multiplies PAN's detail; bounded where the image is dark (ours).

    With g = contrast / deviation, the gain of a method that adds, and the divisor's root mean square r:

        modulation = (band + g lift) / (divisor + lift)
        lift = max(0, max(r / 12, |band - g divisor| / (5 g)) - divisor)

    Most pixels have no lift: they get band / divisor, as published. Where the divisor is dark, 0 or negative, both
    images are lifted, as by one haze, and the result moves towards g: the method adds the detail there. It is never
    farther than 5 g from g, and continuous, so neighbouring pixels do not part. Bands and divisor may be in any unit.

    Args:
        band: (b, c, H, W), one band each or all of an image.
        divisor: (b, c, H, W), or (b, 1, H, W) for all bands.
        contrast: (b, c, 1, 1), deviation of the band in the scene.
        mean, deviation: (b, c, 1, 1) or (b, 1, 1, 1), of the divisor in the scene.
    Returns: (b, c, H, W); 0 where the divisor is 0 all over the scene.
    """
    gain, least = quotient_or_zero(contrast, deviation), _FLOOR * torch.hypot(mean, deviation)
    bright = divisor.amin((-2, -1), keepdim=True) >= least.clamp(min=torch.finfo(least.dtype).tiny)
    if not torch.compiler.is_compiling() and bright.all():  # an exported network knows no pixels yet
        quotient = band / divisor
        limit = _LIMIT * gain.masked_fill(gain == 0, torch.inf)
        low, high = quotient.amin((-2, -1), keepdim=True), quotient.amax((-2, -1), keepdim=True)
        if (torch.maximum(high - gain, gain - low) <= limit).all():
            return quotient  # mostly no pixel is lifted, and that is found out in a third of the time
    far = quotient_or_zero((band - gain * divisor).abs(), _LIMIT * gain)
    lift = (torch.maximum(far, least) - divisor).clamp(min=0)
    return quotient_or_zero(band + gain * lift, divisor + lift)


@dataclass(frozen=True)
class Moments:
    """Means and covariances of the bands of some images, over all pixels counted.

    Args:
        bands: name of an image to its place among the k bands of all.
        dtype: type of the images, and of answers that are put together with them.
        count: pixels counted.
        means: (b, k).
        scatter: (b, k, k), sums of products of differences from the means.
    """

    bands: dict[str, slice]
    dtype: torch.dtype
    count: int
    means: Float64[Tensor, "b k"]
    scatter: Float64[Tensor, "b k k"]

    def __add__(self, other: "Moments") -> "Moments":
        """Over the pixels of both: nothing large is taken from something large.

        Chan, Golub and LeVeque 1979 [chan1979updating].
        """
        count = self.count + other.count
        share = other.count / max(count, 1)
        step = other.means - self.means
        between = self.count * share * step[:, :, None] * step[:, None]
        scatter = self.scatter + other.scatter + between
        return replace(self, count=count, means=self.means + share * step, scatter=scatter)

    def mean(self, name: str) -> PerBand:
        return self._per_band(self.means[:, self.bands[name]])

    def deviation(self, name: str) -> PerBand:
        """0 where a band is constant to its rounding, as in all that follows."""
        return self._per_band(self._paired(name, name).sqrt())

    def centred(self, name: str, image: Image) -> Image:
        """The image less its mean; exactly 0 where it is constant."""
        flat = self._flat()[:, self.bands[name], None, None]
        return (image - self.mean(name)).masked_fill_(flat, 0.0)

    def covariance(self, name: str, other: str) -> Matrix:
        return self._covariance()[:, self.bands[name], self.bands[other]]

    def products(self, name: str, other: str) -> Matrix:
        """Means of the products of the bands, which are not centred."""
        scatter = self.scatter / max(self.count, 1) + self.means[:, :, None] * self.means[:, None]
        return scatter[:, self.bands[name], self.bands[other]]

    def slope(self, name: str, predictor: str) -> PerBand:
        """Least-squares slope on the predictor, of one band or as many; 0 where that is constant."""
        variance = self._paired(predictor, predictor)
        return self._per_band(quotient_or_zero(self._paired(name, predictor), variance))

    def correlation(self, name: str, other: str) -> PerBand:
        """Of each band with the other's, of which there is one or as many; 0 where either is constant."""
        variances = self._paired(name, name) * self._paired(other, other)
        return self._per_band(quotient_or_zero(self._paired(name, other), variances.sqrt()))

    def with_combination(self, name: str, of: str, weights: Float64[Tensor, "b _ m"]) -> "Moments":
        """With one more image: the sums of the bands of `of`, times their weights."""
        k = self.means.shape[1]
        unchanged = torch.eye(k, dtype=weights.dtype, device=weights.device).expand(len(weights), -1, -1)
        combined = weights.new_zeros(len(weights), k, weights.shape[-1])
        combined[:, self.bands[of]] = weights
        maps = torch.cat([unchanged, combined], 2)
        return replace(
            self,
            bands=self.bands | {name: slice(k, maps.shape[-1])},
            means=(self.means[:, None] @ maps)[:, 0],
            scatter=maps.mT @ (self.count * self._covariance()) @ maps,
        )

    def _flat(self) -> Bool[Tensor, "b k"]:
        # the published interpolation taps, rounded to twelve digits, turn a constant into one to 4e-10
        rounding = max(32 * torch.finfo(self.dtype).eps, 1e-8)
        variance = self.scatter.diagonal(dim1=1, dim2=2) / max(self.count, 1)
        return variance <= rounding**2 * (variance + self.means.square())

    def _covariance(self) -> Float64[Tensor, "b k k"]:
        flat = self._flat()
        return (self.scatter / max(self.count, 1)).masked_fill(flat[:, :, None] | flat[:, None], 0.0)

    def _paired(self, name: str, other: str) -> Float64[Tensor, "b c"]:
        """Covariances of the bands of two images one by one, or of all with the only band of the other."""
        index = torch.arange(self.means.shape[1], device=self.means.device)
        rows, columns = torch.broadcast_tensors(index[self.bands[name]], index[self.bands[other]])
        return self._covariance()[:, rows, columns]

    def _per_band(self, values: Float64[Tensor, "b c"]) -> PerBand:
        return values[..., None, None].to(self.dtype)


class Spread:
    """Request for the `Moments` of images of one size."""

    def __init__(self, **images: Images) -> None:
        self.images = images

    def tally(self, core: Core | None = None) -> Moments:
        places, start = {}, 0
        for name, image in self.images.items():
            places[name] = slice(start, start := start + image.shape[1])
        return reduce(add, (_moments(chunk, places) for chunk in self._chunks(core, start)))

    def _chunks(self, core: Core | None, bands: int) -> Iterator[Float[Tensor, "b k n"]]:
        images, valid = [*self.images.values()], None
        if core is not None:
            valid = core.counted(images[0])
            images, valid = [core.cut(image) for image in images], None if valid.all() else valid
        batch, _, height, width = images[0].shape
        rows = max(1, _CHUNK // (batch * bands * width))
        for top in range(0, height, rows):
            part = slice(top, top + rows)
            stack = torch.cat([image[..., part, :] for image in images], 1)
            yield stack.flatten(2) if valid is None else stack[..., valid[part]]


def _moments(pixels: Float[Tensor, "b k n"], bands: dict[str, slice]) -> Moments:
    # a copy also of what is float64 already: the pixels may be an image of the caller's
    values, count = pixels.to(torch.float64, copy=True), pixels.shape[-1]
    means = values.sum(-1) / max(count, 1)
    values -= means[..., None]
    whole = count // _PIXELS * _PIXELS
    pieces, rest = values[..., :whole].unflatten(-1, (-1, _PIXELS)).transpose(1, 2), values[..., whole:]
    return Moments(bands, pixels.dtype, count, means, (pieces @ pieces.mT).sum(1) + rest @ rest.mT)


@dataclass(frozen=True)
class Lowest:
    """The lowest values of each band, as many as a percentile needs; not in order.

    Args:
        percent: of the percentile.
        count: pixels counted.
        values: (b, c, n) of them.
        kept: largest n.
    """

    percent: float
    count: int
    values: Float[Tensor, "b c n"]
    kept: int

    def __add__(self, other: "Lowest") -> "Lowest":
        values = _lowest(torch.cat([self.values, other.values], -1), self.kept)
        return replace(self, count=self.count + other.count, values=values)

    def percentile(self) -> PerBand:
        """MATLAB's prctile: linear between sorted values, value k of n standing at 100 (k - 1/2)/n."""
        ordered, last = self.values.sort(-1).values, self.count - 1
        position = min(max(self.count * self.percent / 100 - 0.5, 0.0), last)
        below, above = ordered[..., int(position)], ordered[..., min(int(position) + 1, last)]
        return torch.lerp(below, above, position % 1)[..., None, None]


def _lowest(values: Float[Tensor, "b c n"], kept: int) -> Float[Tensor, "b c m"]:
    return values.topk(kept, largest=False, sorted=False).values if kept < values.shape[-1] else values


class Percentile:
    """Request for the `Lowest` values of an image: those up to a percentile, of which 0 is the minimum."""

    def __init__(self, image: Image, percent: float) -> None:
        self.image, self.percent = image, percent

    def tally(self, core: Core | None = None) -> Lowest:
        if core is None:
            values, pixels = self.image.flatten(2), self.image.shape[-2:].numel()
        else:
            values, pixels = core.cut(self.image)[..., core.counted(self.image)], core.scene_pixels
        kept = math.ceil(pixels * self.percent / 100) + 2
        return Lowest(self.percent, values.shape[-1], _lowest(values, kept), kept)


# Of one image in memory


def mean(image: Image) -> PerBand:
    return Spread(image=image).tally().mean("image")


def centred(image: Image) -> Image:
    return Spread(image=image).tally().centred("image", image)


def deviation(image: Image) -> PerBand:
    return Spread(image=image).tally().deviation("image")
