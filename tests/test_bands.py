"""Which band is which: what users name, what files say in descriptions and colours, and what is a mask."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp as C
from rasters import grid, noise, save

from clippan_lib import cli
from clippan_lib.commands import given
from clippan_lib.data.pair import open_pair
from clippan_lib.data.pair.identity import in_words, number_of, own_name
from clippan_lib.errors import DataError
from clippan_lib.sensors import SENSORS, Sensor, get_sensor

QB, L8, WV3, PNEO = (get_sensor(name) for name in ("QB", "L8", "WV3", "PNEO"))
LEVELS = np.arange(100, 1000, 100, dtype=np.uint16)[:, None, None]  # so that each band is known by its mean
RGBN = [C.red, C.green, C.blue, C.nir]


def opened(folder: Path, bands=4, names=(), meanings=(), wanted=None, sensor=None, image=None, ratio=None):
    """A pair whose MS says this of its bands, and the places from 0 of those that are read."""
    image = LEVELS[:bands] + noise(bands, 24, 24) if image is None else image
    ratio = ratio or (sensor.ratio if sensor else 4)
    ms = save(folder / "ms.tif", image, grid(ratio, (ratio - 1) % 2 / 2, 0), names=names, meanings=meanings)
    pan = save(folder / "pan.tif", noise(1, 24 * ratio, 24 * ratio, dtype=image.dtype), grid())
    pair = open_pair(ms, pan, bands=wanted, sensor=sensor)
    return pair, [number - 1 for number in pair._ms.bands]


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("Red", "red"),
        ("Band 4 - Red (655 nm)", "red"),
        ("Blue ( 482 Nanometers)", "blue"),
        ("NIR/B5 Größe µm", "nir"),
        ("red-edge", "red_edge"),
        ("RedEdge 2", "red_edge2"),
        ("Vegetation Red Edge", "red_edge"),
        ("CoastalAerosol", "coastal"),
        ("Deep Blue", "coastal"),
        ("NearInfrared", "nir"),
        ("Near-IR", "nir"),
        ("NIR-2", "nir2"),
        ("nir08", "nir1"),
        ("NIR 842", "nir"),
        ("BAND_N2", "nir2"),
        ("G", "green"),
        ("BAND_Y", "yellow"),
        ("y", ""),
        ("ShortWaveInfrared_1", "swir1"),
        ("L1TP - Band 6 - Shortwave Infrared (SWIR) 1 1.566-1.651μm (30m)", "swir1"),
        ("swir22", "swir2"),
        ("Thermal Infrared (TIRS) 1", "thermal"),
        ("panchromatic", "pan"),
        ("red/nir ratio", ""),
        ("redness", ""),
        ("Layer 2", ""),
        ("QA_PIXEL", ""),
        ("SR_B4", ""),
        ("", ""),
    ],
)
def test_a_description_names_one_band_or_nothing(text, band):
    assert in_words(text) == band


@pytest.mark.parametrize(
    ("text", "number"),
    [("B4", 4), ("SR_B4", 4), ("B04", 4), ("Band 10", 10), ("LC08_L1TP_034_20190513_B7", 7), ("B0", 0)]
    + [("Red", None), ("B1 or B2", None), ("B8A", None), ("bb4", None), ("655 nm", None)],
)
def test_the_number_of_a_description(text, number):
    assert number_of(text) == number


@pytest.mark.parametrize(
    ("sensor", "name", "band"),
    [
        ("L8", "B4", "red"),
        ("L8", "b04", "red"),
        ("L7", "B4", "nir"),
        ("QB", "B4", ""),
        ("WV3", "nir", "nir1"),
        ("WV3", "NIR2", "nir2"),
        ("L8", "nir1", "nir"),
        ("L8", "swir", ""),
        ("PNEO", "deep blue", "coastal"),
        ("WVL", "red edge", ""),
        ("WVL", "RedEdge1", "red_edge1"),
        ("QB", "B10", ""),
        ("L8", "B10", ""),
        ("QB", "yellow", ""),
    ],
)
def test_a_sensor_knows_its_bands_by_other_names(sensor, name, band):
    assert own_name(name, get_sensor(sensor)) == band


LANDSAT = [f"B{n}" for n in range(2, 8)]
READ = [
    # sensor, what the file says (descriptions or colours), wanted, names, places
    (L8, LANDSAT, None, L8.bands[1:], [0, 1, 2, 3, 4, 5]),
    (L8, LANDSAT, ["red", "green", "blue"], ("red", "green", "blue"), [2, 1, 0]),
    (L8, LANDSAT, ["B4", "b3", "B02"], ("red", "green", "blue"), [2, 1, 0]),
    (L8, LANDSAT, [3, 2, 1], ("red", "green", "blue"), [2, 1, 0]),
    (L8, ["SR_B4", "SR_B3", "SR_B2"], None, ("blue", "green", "red"), [2, 1, 0]),
    (L8, ["Band 5 - NIR", "Band 4 - Red", "Band 10 - Thermal Infrared"], None, ("red", "nir"), [1, 0]),
    (L8, [f"Band {n}" for n in range(1, 8)], None, L8.bands, [*range(7)]),
    (L8, ["Band 1", "Band 2", "Band 3"], ["red", "green", "blue"], ("red", "green", "blue"), [0, 1, 2]),
    (L8, [""] * 7, ["red", "green", "blue"], ("red", "green", "blue"), [3, 2, 1]),
    (L8, [""] * 7, [4, 3, 2], ("red", "green", "blue"), [3, 2, 1]),
    (L8, [""] * 3, ["red", "green", "blue"], ("red", "green", "blue"), [0, 1, 2]),
    (L8, [C.red, C.green, C.blue, C.nir, C.swir, C.swir], None, L8.bands[1:], [2, 1, 0, 3, 4, 5]),
    (get_sensor("L7"), ["B1", "B2", "B3", "B4"], None, ("blue", "green", "red", "nir"), [0, 1, 2, 3]),
    (get_sensor("SPOT6"), ["B2", "B1", "B0", "B3"], None, QB.bands, [2, 1, 0, 3]),
    (get_sensor("SPOT6"), ["B1", "B2", "B3", "B4"], None, QB.bands, [0, 1, 2, 3]),
    (WV3, ["Blue", "Green", "Red", "NIR"], None, ("blue", "green", "red", "nir1"), [0, 1, 2, 3]),
    (WV3, [C.blue, C.green, C.red, C.nir], None, ("blue", "green", "red", "nir1"), [0, 1, 2, 3]),
    (WV3, [C.blue, C.green, C.red, C.nir], ["nir1", "red"], ("nir1", "red"), [3, 2]),
    (WV3, [C.blue, C.green, C.red, C.undefined], ["red", "green", "blue", "nir2"], None, [2, 1, 0, 3]),
    (
        WV3,
        [*RGBN[:3], C.coastal, C.yellow, C.rededge, C.nir, C.nir],
        None,
        WV3.bands,
        [3, 2, 1, 4, 0, 5, 6, 7],
    ),
    (PNEO, [*RGBN, C.rededge, C.coastal], None, PNEO.bands, [5, 2, 1, 0, 4, 3]),
    (QB, RGBN, None, QB.bands, [2, 1, 0, 3]),
    (QB, RGBN, ["red", "green", "blue", "nir"], ("red", "green", "blue", "nir"), [0, 1, 2, 3]),
    (QB, RGBN, [3, 2, 1, 4], QB.bands, [2, 1, 0, 3]),
    (QB, RGBN, [1, 2, 3], ("red", "green", "blue"), [0, 1, 2]),
    (QB, [*RGBN[:3], C.undefined], None, QB.bands, [2, 1, 0, 3]),
    (QB, [C.blue, C.undefined, C.red, C.undefined], None, QB.bands, [0, 1, 2, 3]),
    (QB, ["Layer 1", "Layer 2", "Layer 3", "Layer 4"], None, QB.bands, [0, 1, 2, 3]),
    (QB, ["p", "q", "r2", "s"], ["r2", "q", "p", "s"], QB.bands, [2, 1, 0, 3]),
    (QB, [""] * 4, ["red", "green", "blue", "nir"], ("red", "green", "blue", "nir"), [0, 1, 2, 3]),
    (None, ["SR_B2", "SR_B3", "SR_B4"], ["b4", "B02"], ("sr_b4", "sr_b2"), [2, 0]),
    (None, ["Blue ( 482 Nanometers)", "B4 - Red", "x y"], None, ("blue", "red", "x_y"), [0, 1, 2]),
    (None, RGBN, ["NIR", "Red"], ("nir", "red"), [3, 0]),
    (None, ["red mean", "red deviation", "nir"], None, ("red_mean", "red_deviation", "nir"), [0, 1, 2]),
    (None, [""] * 3, ["red", "green", "blue"], ("red", "green", "blue"), [0, 1, 2]),
    (None, [C.gray, C.undefined], None, ("band_1", "band_2"), [0, 1]),
]


@pytest.mark.parametrize(("sensor", "said", "wanted", "names", "places"), READ)
def test_bands_are_what_the_file_says_they_are(tmp_path, sensor, said, wanted, names, places):
    how = {"names" if isinstance(said[0], str) else "meanings": said}
    pair, seen = opened(tmp_path, len(said), wanted=wanted, sensor=sensor, **how)
    assert pair.band_names == (tuple(wanted) if names is None else names) and seen == places
    means = pair.read(slice(None), slice(None)).lrms[0].mean((1, 2))
    np.testing.assert_allclose(means - 60, LEVELS[places, 0, 0], atol=10)


def test_a_user_is_told_which_band_is_taken_for_which(tmp_path):
    pair, _ = opened(tmp_path, meanings=RGBN, sensor=QB)
    assert pair.remarks == (
        "bands of QB in MS: blue is band 3, green is band 2, red is band 1, nir is band 4",
    )
    pair, _ = opened(tmp_path, names=["Blue", "Green", "Red", "NIR"], sensor=WV3)
    assert pair.remarks[0].endswith("red is band 3, nir1 is band 4 ('NIR')")
    pair, _ = opened(tmp_path, wanted=["red", "green", "blue", "nir"], sensor=QB)
    assert "does not say what its bands are: they are taken for red, green, blue, nir" in pair.remarks[0]
    assert (
        opened(tmp_path, names=QB.bands, sensor=QB)[0].remarks == opened(tmp_path, sensor=QB)[0].remarks == ()
    )


REFUSED = [
    (
        None,
        ["red", "green", "blue"],
        [C.blue, C.green, C.red],
        None,
        ["band 1 is described as 'red'", "tagged blue"],
    ),
    (QB, ["red", "green", "blue", "nir"], [C.blue, C.green, C.red, C.nir], None, ["'red'", "tagged blue"]),
    (
        get_sensor("L7"),
        ["B4 - Red", "B3 - Green"],
        (),
        None,
        ["'B4 - Red'", "B4 of L7 is nir", "correct `sensor`"],
    ),
    (L8, ["B4", "B3"], [C.nir, C.green], None, ["described as 'B4'", "tagged nir"]),
    (None, ["blue", "red", "red"], (), ["blue", "red"], ["bands 2, 3 of the file are both called that"]),
    (None, [], [C.red, C.red, C.nir], ["red", "nir"], ["bands 1, 2 of the file are both called that"]),
    (QB, ["blue", "green", "red", "Red"], (), None, ["bands 3, 4 of the file are both red"]),
    (QB, [], RGBN, [1, 2, 3, 4], ["say that blue of QB is band 1", "the file calls 'red'", "give names"]),
    (WV3, [], [C.blue, C.undefined, C.undefined], None, ["WV3 of 8 bands", "has 3 (blue, band_2, band_3)"]),
    (L8, [], [C.undefined] * 6, None, ["L8 of 7 bands", "has 6", "the names of all that the file has"]),
    (L8, [], [C.undefined] * 6, [3, 2, 1], ["which of those band 3 is cannot be told", "give names"]),
    (L8, [], [C.undefined] * 6, ["red", "green", "blue"], ["red, green, blue are wanted", "has 6"]),
    (QB, [], [C.undefined] * 4, ["red", "swir1"], ["red, swir1"]),
    (QB, ["red", "x", "y", "nir"], (), ["red", "x"], ["red, x", "QB of 4 bands"]),
    (None, ["B2", "B3", "B4"], (), ["red", "green"], ["red, green", "give `sensor`"]),
    (L8, LANDSAT, (), ["red", "B4"], ["red, B4 ask for band 3 of the file twice"]),
    (None, [], [C.undefined] * 3, ["x", "y", "z"], ["x, y, z", "band_1, band_2, band_3"]),
]


@pytest.mark.parametrize(("sensor", "names", "meanings", "wanted", "said"), REFUSED)
def test_what_contradicts_itself_or_cannot_be_told_is_refused(
    tmp_path, sensor, names, meanings, wanted, said
):
    count = len(names) or len(meanings)
    with pytest.raises(DataError) as refusal:
        opened(tmp_path, count, names, meanings, wanted, sensor)
    assert all(words in str(refusal.value) for words in ["ms.tif", *said])


def test_colours_that_gdal_gives_to_any_8_bit_file_yield_to_its_descriptions_and_to_numbers(tmp_path):
    image = noise(4, 24, 24, dtype=np.uint8)
    pair, places = opened(tmp_path, image=image, names=["blue", "green", "red", "nir"], sensor=QB)
    with rasterio.open(tmp_path / "ms.tif") as file:
        assert [meaning.name for meaning in file.colorinterp] == ["red", "green", "blue", "alpha"]
    assert pair.band_names == QB.bands and places == [0, 1, 2, 3]
    pair, places = opened(tmp_path, image=image, wanted=[1, 2, 3, 4], sensor=QB)
    assert pair.band_names == QB.bands and places == [0, 1, 2, 3]
    pair, places = opened(tmp_path, image=image, sensor=QB)  # nothing else is known
    assert pair.band_names == QB.bands and places == [2, 1, 0, 3]


def test_a_band_tagged_alpha_that_holds_data_is_a_band_and_its_zeros_are_data(tmp_path):
    image = noise(4, 24, 24, dtype=np.uint8)
    image[3, 2:9] = 0
    for wanted, sensor in ((None, None), ([4, 1, 2], None), (None, QB), ([1, 2, 3], None)):
        pair, places = opened(tmp_path, image=image, wanted=wanted, sensor=sensor)
        assert len(places) == pair.n_bands == (len(wanted) if wanted else 4)
        assert pair.read(slice(None), slice(None)).lrms_valid.all()
        told = "band 4 of MS is tagged alpha, but holds data, not a mask: it is sharpened"
        assert (told in pair.remarks) == (3 in places)


@pytest.mark.parametrize("top", [255, 1])
@pytest.mark.parametrize("feathered", [False, True])
def test_a_band_tagged_alpha_that_holds_a_mask_masks(tmp_path, top, feathered):
    image = noise(4, 24, 24, dtype=np.uint8)
    image[3] = top
    image[3, :8] = 0
    if feathered and top == 255:
        image[3, 8:11] = np.array([60, 120, 180])[:, None]
    for sensor in (None, QB):  # which has four bands
        pair, _ = opened(tmp_path, image=image, sensor=sensor)
        assert sorted(pair.band_names) == ["blue", "green", "red"]
        valid = pair.read(slice(None), slice(None)).lrms_valid[0, 0]
        assert not valid[:7].any() and valid[9:].all()
    assert opened(tmp_path, image=image, wanted=[1, 2, 3, 4])[0].n_bands == 4  # as asked


def test_a_mask_of_16_bits_beside_four_bands_is_a_mask(tmp_path):
    image = noise(5, 24, 24)
    image[4] = 65535
    image[4, :, :5] = 0
    pair, _ = opened(tmp_path, image=image, meanings=[C.blue, C.green, C.red, C.nir, C.alpha], sensor=WV3)
    assert pair.band_names == ("blue", "green", "red", "nir1")
    assert (~pair.read(slice(None), slice(None)).lrms_valid).any()


def test_a_sensor_of_ones_own_is_known_by_the_names_it_has(tmp_path):
    own = Sensor("MINE", ("M1", "M2", "M3"), 12, 4, (0.2, 0.3, 0.4), 0.15, (2, 1, 0), (1, 0, 2))
    pair, places = opened(tmp_path, 3, names=["m3", "m1", "m2"], sensor=own)
    assert (pair.band_names, places) == (("M1", "M2", "M3"), [1, 2, 0])
    pair, places = opened(tmp_path, 3, names=["m3", "m1", "m2"], wanted=["m3", "M2"], sensor=own)
    assert (pair.band_names, places) == (("M3", "M2"), [0, 2])


def test_part_of_a_sensor_finds_its_bands_in_a_file_of_all(tmp_path):
    part = SENSORS["L8"].only(["red", "green", "blue"])
    for wanted in (None, ["red", "green", "blue"], [4, 3, 2]):
        pair, places = opened(tmp_path, 7, wanted=wanted, sensor=part)
        assert (pair.band_names, places) == (part.bands, [3, 2, 1])


@pytest.mark.parametrize(
    ("text", "bands"),
    [
        ("3, 2, 1", [3, 2, 1]),
        (" 3,2 ,1", [3, 2, 1]),
        ("B4, B3, B2", ["B4", "B3", "B2"]),
        ("Near infrared,red", ["Near infrared", "red"]),
    ],
)
def test_blanks_between_bands_do_not_count(text, bands):
    assert given.bands(text) == bands


@pytest.mark.parametrize("text", ["3,red", "1,,2", "", "-1,2", "1,2,", "1.0,2"])
def test_a_list_of_bands_that_is_none_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        cli.main(["sharpen", "--ms", "m", "--pan", "p", "--out", "o", f"--bands={text}"])
    assert "give numbers from 1, such as 3,2,1, or names, such as red,green,blue" in capsys.readouterr().err
