"""All scores without a reference, for many fused images of one pair."""

from collections.abc import Collection

from clippan_lib.metrics.no_reference import BLOCK, changes, pan_lowpass, quality_matrix
from clippan_lib.metrics.reference import (
    AnyImage,
    check_blocks,
    check_images,
    ergas,
    q2n,
    sam,
)
from clippan_lib.metrics.reprojection import at_phase, phases, r_q2n
from clippan_lib.metrics.spatial import d_rho, d_s_r, detail_quality, ideal_lowpass, low_details
from clippan_lib.mtf import Border, filter_image, mtf_kernel, upsample
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import LRMS, Image, Scores, check_pair, check_unit_range


class Judge:
    """Scores any number of fused images of one pair; what does not depend on them is computed once.

    Args:
        lrms: (b, c, H/ratio, W/ratio), [0, 1].
        pan: (b, 1, H, W), [0, 1], sides multiples of 32.
        sensor: gives the MTF gains, and its own largest digital number.
        ratio: PAN-to-MS scale.
        dn_max: largest digital number of the data, if not the sensor's; D_lambda_K and R_Q2n round to digital numbers.
        border: how EXP extends the images that are compared with, see `mtf.upsample`; "circular" is the toolbox's.
    Raises: ValueError on sizes or bands that do not belong together, values that are not finite, or plainly not in
        [0, 1].
    """

    def __init__(
        self,
        lrms: LRMS,
        pan: AnyImage,
        sensor: Sensor,
        ratio: int,
        dn_max: float | int | None = None,
        border: Border = "replicate",
    ) -> None:
        check_pair(lrms, pan, ratio)
        if lrms.shape[1] != sensor.n_bands:
            raise ValueError(
                f"lrms has {lrms.shape[1]} bands and sensor {sensor.name} {sensor.n_bands}; they must agree"
            )
        check_blocks(pan.shape[-2], pan.shape[-1], BLOCK)
        check_images(lrms=lrms)
        check_images(pan=pan)
        check_unit_range(lrms, lrms=lrms, pan=pan)
        self.lrms, self.pan, self.ratio = lrms, pan, ratio
        self.dn_max = dn_max or sensor.max_value
        self._kernels = mtf_kernel(sensor.gnyq, ratio)
        self._lms = upsample(lrms, ratio, border)
        self._low = quality_matrix(self._lms, pan_lowpass(pan, ratio, border))
        self._phases = phases(lrms, pan, sensor.gnyq, ratio)
        self._pan_details = pan - ideal_lowpass(pan, ratio)
        self._low_details = low_details(lrms, pan, sensor.gnyq, sensor.gnyq_pan, ratio)

    def scores(self, hrms: Image, names: Collection[str] | None = None) -> dict[str, Scores]:
        """The scores of one fused image.

        Args:
            hrms: (b, c, H, W), [0, 1].
            names: names of the scores that are wanted; others are left out where that saves time. None: all.
        Returns: name to (b,): D_rho, R_Q2n, R_SAM, R_ERGAS, D_s_R, D_s_F, D_lambda, D_s, QNR, D_lambda_K, HQNR, RQNR.
        Raises: ValueError on another size than the pair's, values plainly not in [0, 1], or where a score does.
        """
        check_images(lms=self._lms, hrms=hrms)
        check_unit_range(hrms)
        blurred = filter_image(hrms, self._kernels)
        spectral, spatial = changes(quality_matrix(hrms, self.pan), self._low)
        khan = 1 - q2n(blurred, self._lms, BLOCK, self.dn_max)
        unexplained = d_s_r(hrms, self.pan)
        seen = at_phase(blurred, self.ratio, self._phases)
        found = {
            "D_rho": lambda: d_rho(hrms, self.pan, self.ratio),
            "R_Q2n": lambda: r_q2n(seen, self.lrms, self.dn_max),
            "R_SAM": lambda: sam(seen, self.lrms),
            "R_ERGAS": lambda: ergas(seen, self.lrms, self.ratio),
            "D_s_R": lambda: unexplained,
            "D_s_F": lambda: self._d_s_f(hrms - blurred),
            "D_lambda": lambda: spectral,
            "D_s": lambda: spatial,
            "QNR": lambda: (1 - spectral) * (1 - spatial),
            "D_lambda_K": lambda: khan,
            "HQNR": lambda: (1 - khan) * (1 - spatial),
            "RQNR": lambda: (1 - khan) * (1 - unexplained),
        }
        return {name: score() for name, score in found.items() if names is None or name in names}

    def _d_s_f(self, details: Image) -> Scores:
        return (detail_quality(details, self._pan_details, BLOCK) - self._low_details).abs().mean(1)
