"""Fusion without training: interpolation, component substitution, multiresolution analysis, sparse, variational.

Each method equals the public MATLAB toolbox (Vivone et al. 2015 [vivone2015critical], 2021 [vivone2021new]) to
its rounding, but TV, whose toolbox code has errors; FE-HPM by default, whose regularisation is relative here; and
all that divide by an image where that is dark or negative, see `statistics.modulation`. None depends on the unit of
its input: digital numbers and [0, 1] give the same image. Singular systems (constant images, repeated bands) get the
least solution, so every output is finite. Least squares are solved in float64.
"""

from clippan_lib.fusion.classical.band_dependent import bdsd, bdsd_pc
from clippan_lib.fusion.classical.expansion import exp
from clippan_lib.fusion.classical.filter_estimation import fe_hpm
from clippan_lib.fusion.classical.multiresolution import awlp, mtf_glp, mtf_glp_fs, mtf_glp_hpm, mtf_glp_hpm_r
from clippan_lib.fusion.classical.sparse import sr_d
from clippan_lib.fusion.classical.substitution import brovey, bt_h, gihs, gs, gsa, pracs
from clippan_lib.fusion.classical.variational import tv

__all__ = [
    "awlp",
    "bdsd",
    "bdsd_pc",
    "brovey",
    "bt_h",
    "exp",
    "fe_hpm",
    "gihs",
    "gs",
    "gsa",
    "mtf_glp",
    "mtf_glp_fs",
    "mtf_glp_hpm",
    "mtf_glp_hpm_r",
    "pracs",
    "sr_d",
    "tv",
]
