"""The numbers that the paper prints in its Tables 1 to 5, and whether ours may stand beside them."""

import pandas as pd

_FULL, _REDUCED = ("D_lambda", "D_s", "QNR"), ("MPSNR", "ERGAS", "SAM", "Q2n")
# What the paper employs beside the trained networks
CLASSICAL = ("SR-D", "MTF-GLP-HPM-R")
# Table 1, full then reduced resolution; `-C` is with CLIPPan
_NETWORKS = {
    "QB": {
        "SR-D": (0.0151, 0.0410, 0.9445, 39.0381, 3.1441, 3.2672, 0.7488),
        "MTF-GLP-HPM-R": (0.0386, 0.0557, 0.9104, 44.3701, 1.8564, 1.2384, 0.8088),
        "lambda_pnn": (0.0604, 0.1003, 0.8467, 42.1526, 1.7170, 1.5809, 0.7263),
        "lambda_pnn-C": (0.0063, 0.0294, 0.9643, 44.3535, 1.3345, 1.6468, 0.7858),
        "pnn": (0.0137, 0.0347, 0.9521, 48.8494, 0.7372, 0.9404, 0.8799),
        "pnn-C": (0.0138, 0.0336, 0.9532, 48.9031, 0.7226, 0.9275, 0.8806),
        "arbrpn": (0.0140, 0.0281, 0.9582, 51.2758, 0.5470, 0.7299, 0.9079),
        "arbrpn-C": (0.0030, 0.0279, 0.9691, 51.3047, 0.5448, 0.7250, 0.9083),
        "lformer": (0.0124, 0.0277, 0.9602, 50.2647, 0.6210, 0.8092, 0.8988),
        "lformer-C": (0.0053, 0.0272, 0.9676, 50.3799, 0.6149, 0.7990, 0.9006),
        "pan_mamba": (0.0134, 0.0277, 0.9592, 50.5325, 0.5927, 0.7778, 0.8998),
        "pan_mamba-C": (0.0050, 0.0278, 0.9672, 50.6724, 0.5888, 0.7731, 0.9022),
    },
    "WV3": {
        "SR-D": (0.0258, 0.0580, 0.9177, 29.3070, 8.9904, 9.6229, 0.7334),
        "MTF-GLP-HPM-R": (0.0585, 0.0552, 0.8895, 30.5174, 6.2900, 6.4423, 0.7710),
        "lambda_pnn": (0.0722, 0.0565, 0.8757, 31.1314, 6.5617, 6.2032, 0.7006),
        "lambda_pnn-C": (0.0091, 0.0364, 0.9547, 33.9501, 4.8606, 5.9487, 0.7914),
        "pnn": (0.0245, 0.0358, 0.9405, 37.1830, 3.2368, 4.3787, 0.8324),
        "pnn-C": (0.0098, 0.0404, 0.9501, 37.2778, 3.2802, 4.3172, 0.8355),
        "arbrpn": (0.0271, 0.0356, 0.9383, 38.3459, 2.8467, 3.7834, 0.8538),
        "arbrpn-C": (0.0042, 0.0375, 0.9582, 38.6344, 2.7254, 3.6221, 0.8558),
        "lformer": (0.0253, 0.0541, 0.9227, 38.0189, 2.9513, 3.8192, 0.8493),
        "lformer-C": (0.0049, 0.0380, 0.9572, 38.2575, 2.8623, 3.7609, 0.8506),
        "pan_mamba": (0.0152, 0.0429, 0.9426, 38.1740, 2.8900, 3.7766, 0.8504),
        "pan_mamba-C": (0.0051, 0.0371, 0.9578, 38.2407, 2.8548, 3.7540, 0.8513),
    },
}
# Tables 2 to 5: WV3, reduced resolution. The last row of Tables 2, 3, 4 and 5 is one and the same network.
_ALL = (34.7191, 4.4922, 5.5429, 0.7986)
_ABLATIONS = {
    2: {
        "L_spec + L_spat": (29.2739, 8.9584, 9.1671, 0.6102),
        "L_QNR": (32.0266, 5.9536, 6.7052, 0.7013),
        "L_unsup": (32.1946, 5.8776, 6.6616, 0.7100),
        "L_unsup + L_ship": (33.5735, 4.5659, 5.9493, 0.7661),
        "L_unsup + L_d": (32.3696, 5.7517, 6.5471, 0.7366),
        "L_unsup + L_ship + L_d": _ALL,
    },
    3: {
        "w/o fine-tuning": (34.3445, 4.7019, 5.5517, 0.7848),
        "L_intra": (34.5553, 4.5237, 5.5141, 0.7904),
        "L_intra + L_inter": (34.6019, 4.5349, 5.2694, 0.7930),
        "L_intra + L_inter + L_1": _ALL,
    },
    4: {
        "PCA": (34.6903, 4.7911, 5.6647, 0.7955),
        "RGB": (34.4237, 4.6220, 5.6168, 0.7940),
        "GBNIR": (34.3282, 4.5038, 5.6804, 0.7957),
        "Conv": _ALL,
    },
    5: {
        "Noise": (34.3671, 4.6553, 5.8676, 0.7869),
        "I": (34.5060, 4.6490, 5.4767, 0.7911),
        "II": (34.7662, 4.5178, 5.6075, 0.7968),
        "Khan's": (34.6581, 4.5021, 5.5506, 0.7969),
        "Wald's": _ALL,
    },
}


def printed(table: int, judged: str) -> dict[str, pd.DataFrame]:
    """The paper's scores.

    Args:
        table: 1 to 5.
        judged: "reduced" or "lowered", which the paper does not tell apart, or "full".
    Returns: sensor ("QB", "WV3") to rows (labels of `grid`) by metrics; empty where the paper prints none.
    """
    if table != 1 and judged == "full":
        return {}
    rows = _NETWORKS if table == 1 else {"WV3": _ABLATIONS[table]}
    columns = _FULL + _REDUCED if table == 1 else _REDUCED
    wanted = list(_FULL if judged == "full" else _REDUCED)
    return {
        sensor: pd.DataFrame.from_dict(each, orient="index", columns=columns)[wanted]
        for sensor, each in rows.items()
    }


def comparable(dataset: str) -> str | None:
    """The sensor whose numbers in the paper may stand beside those of a dataset; None if none may.

    The paper says WorldView-3 and QuickBird and names no collection. PanCollection, on which most of its competitors
    publish theirs, is taken for it; scenes of another collection, sensor or simulation are other scenes.

    Args:
        dataset: the manifest's name.
    """
    return {"pancollection_qb": "QB", "pancollection_wv3": "WV3"}.get(dataset)
