"""Who belongs to train, val and test: nothing is shared, by construction."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import ceil
from typing import Literal

from pydantic import Field, model_validator

from clippan_lib.data.fields import Block

SPLITS = ("train", "val", "test")


class Split(Block):
    """Shares of train, val and test: of a single scene's sides, or of the number of scenes."""

    train: float = Field(ge=0, le=1)
    val: float = Field(ge=0, le=1)
    test: float = Field(ge=0, le=1)
    axis: Literal["columns", "rows"] = "columns"

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Split":
        total = sum(self.fractions.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, val and test sum to {total:g}; they must sum to 1")
        return self

    @property
    def fractions(self) -> dict[str, float]:
        return {split: getattr(self, split) for split in SPLITS}


# blocks of 32 px are what the block-wise metrics need at both resolutions
UNITS = (32, 16, 8)


def cut_side(side: int, fractions: Mapping[str, float], ratio: int) -> dict[str, slice]:
    """Cut one side of a scene into adjoining regions, in the order of `fractions`.

    Lengths are multiples of 32 px where the smallest share is that long, else of 16, 8, `ratio` or 1; the
    remainder goes to the first region, which is for training.

    Args:
        side: length in LRMS px.
        fractions: share of each split, in [0, 1], summing to 1; a share of 0 gets no region.
        ratio: PAN-to-MS scale.
    Returns: split -> slice of LRMS px.
    Raises: ValueError if the side has fewer pixels than there are splits.
    """
    shares = {split: share for split, share in fractions.items() if share > 0}
    if side < len(shares):
        raise ValueError(f"{side} LRMS px cannot be cut into {len(shares)} splits; give fewer splits a share")
    unit = next((unit for unit in (*UNITS, ratio) if min(shares.values()) * side >= unit), 1)
    lengths = [unit * count for count in _apportion(side // unit, shares).values()]
    lengths[0] += side % unit
    ends = list(accumulate(lengths))
    return {split: slice(end - length, end) for split, length, end in zip(shares, lengths, ends, strict=True)}


def shares_with(
    side: int, fractions: Mapping[str, float], least: Mapping[str, int]
) -> dict[str, float] | None:
    """Shares near these of which each leaves enough pixels; None if the side is too short for that.

    What the small ones lack is taken from the largest.

    Args:
        side: length that is cut, px.
        fractions: share of each split, in [0, 1], summing to 1; those of 0 stay 0.
        least: px of each split.
    """
    floors = {split: ceil(100 * least[split] / side) / 100 for split, share in fractions.items() if share}
    found = {split: max(share, floors[split]) if share else 0.0 for split, share in fractions.items()}
    largest = max(found, key=lambda split: found[split] - floors.get(split, 0.0))
    found[largest] = round(1 - sum(share for split, share in found.items() if split != largest), 4)
    return found if found[largest] >= floors[largest] else None


def _apportion(blocks: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole blocks in proportion to the shares (largest remainder), at least one each."""
    counts = {split: max(1, int(blocks * share)) for split, share in shares.items()}
    while sum(counts.values()) > blocks:
        counts[max(counts, key=counts.__getitem__)] -= 1
    while sum(counts.values()) < blocks:
        neediest = max(shares, key=lambda split: shares[split] * blocks - counts[split])
        counts[neediest] += 1
    return counts


def deal(names: Sequence[str], fractions: Mapping[str, float]) -> dict[str, list[str]]:
    """Deal scenes to the splits in their order, always to the split that is furthest behind its share.

    Args:
        names: names of the scenes, in a fixed order.
        fractions: share of each split, in [0, 1], summing to 1.
    Returns: split -> its scenes; a split that gets none is absent.
    """
    hands: dict[str, list[str]] = {split: [] for split in fractions}
    for dealt, name in enumerate(names, start=1):
        behind = max(fractions, key=lambda split: fractions[split] * dealt - len(hands[split]))
        hands[behind].append(name)
    return {split: hand for split, hand in hands.items() if hand}
