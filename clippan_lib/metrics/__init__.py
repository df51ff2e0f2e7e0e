"""The two tables of scores: at reduced resolution against a reference, at full resolution without one."""

from clippan_lib.metrics.judge import Judge
from clippan_lib.metrics.reference import AnyImage, crop_border, ergas, mpsnr, q2n, sam, scc
from clippan_lib.mtf import Border
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import LRMS, Image, Scores

# Every score, with the direction that is better
BETTER = {
    "MPSNR": "high",
    "ERGAS": "low",
    "SAM": "low",
    "Q2n": "high",
    "SCC": "high",
    "D_rho": "low",
    "R_Q2n": "high",
    "R_SAM": "low",
    "R_ERGAS": "low",
    "D_s_R": "low",
    "D_s_F": "low",
    "D_lambda": "low",
    "D_s": "low",
    "QNR": "high",
    "D_lambda_K": "low",
    "HQNR": "high",
    "RQNR": "high",
}
# What tables of methods have, in their order: scores against a truth; then, without one, those that ranked methods best
# (docs/indices.md) and D_rho; then the paper's and the toolbox's. `Judge` gives the rest, too
WITH_TRUTH = ("MPSNR", "ERGAS", "SAM", "Q2n", "SCC")
WITHOUT_TRUTH = ("R_Q2n", "RQNR", "D_rho", "D_lambda", "D_s", "QNR", "D_lambda_K", "HQNR")
TABLES = (*WITH_TRUTH, *WITHOUT_TRUTH)
# The others have none
UNITS = {"MPSNR": "dB", "SAM": "°", "R_SAM": "°"}


def reduced_scores(
    hrms: Image, gt: AnyImage, ratio: int, dn_max: float | int, cut: int = 0
) -> dict[str, Scores]:
    """All scores against a reference, in the toolbox's conventions.

    Args:
        hrms, gt: (b, c, H, W), [0, 1].
        ratio: PAN-to-MS scale.
        dn_max: largest digital number of the data; Q2n rounds to digital numbers.
        cut: border dropped first (`crop_border`); the toolbox's is 21.
    Returns: name to (b,): MPSNR, ERGAS, SAM (degrees), Q2n, SCC.
    Raises: ValueError where one of the scores does.
    """
    hrms, gt = crop_border(hrms, cut), crop_border(gt, cut)
    return {
        "MPSNR": mpsnr(hrms, gt),
        "ERGAS": ergas(hrms, gt, ratio),
        "SAM": sam(hrms, gt),
        "Q2n": q2n(hrms, gt, dn_max=dn_max),
        "SCC": scc(hrms, gt),
    }


def full_scores(
    hrms: Image,
    lrms: LRMS,
    pan: AnyImage,
    sensor: Sensor,
    ratio: int,
    dn_max: float | int | None = None,
    border: Border = "replicate",
) -> dict[str, Scores]:
    """All scores without a reference, in the toolbox's conventions but for the border; `Judge` has them of many images.

    Args:
        hrms: (b, c, H, W), [0, 1], sides multiples of 32.
        lrms: (b, c, H/ratio, W/ratio), [0, 1].
        pan: (b, 1, H, W), [0, 1].
        sensor: gives the MTF gains, and its own largest digital number.
        ratio: PAN-to-MS scale.
        dn_max: largest digital number of the data, if not the sensor's; D_lambda_K rounds to digital numbers.
        border: how EXP extends the images that are compared with, see `mtf.upsample`; "circular" is the toolbox's.
    Returns: name to (b,): what `Judge.scores` gives.
    Raises: ValueError where `Judge` does.
    """
    return Judge(lrms, pan, sensor, ratio, dn_max, border).scores(hrms)
