"""The outcome of a check, and how a check says it."""

from dataclasses import dataclass
from typing import Literal

from clippan_lib.audit.split import SplitAudit

Severity = Literal["ok", "not measured", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Args:
        check: its name.
        split, resolution: what was looked at; leakage: two splits, "train, test", all resolutions.
        severity: "fault" is wrong for certain, "warning" wants a look, "not measured" says why not.
        measured: in words and numbers, with how much was looked at.
        value: the number that is compared with the limit, None where there is none.
        limit: in words.
        advice: what it means and what to do; empty if all is well.
    """

    check: str
    split: str
    resolution: str
    severity: Severity
    measured: str
    value: float | None
    limit: str
    advice: str = ""


def judged(
    part: SplitAudit,
    check: str,
    bad: Severity | None,
    measured: str,
    value: float | None,
    limit: str,
    advice: str,
) -> Finding:
    """`bad` is None if all is well; the advice is then left out."""
    return Finding(
        check, part.split, part.resolution, bad or "ok", measured, value, limit, advice if bad else ""
    )


def unmeasured(part: SplitAudit, check: str, why: str) -> Finding:
    return Finding(check, part.split, part.resolution, "not measured", why, None, "")
