"""The sensor table: its published numbers, and what a row may not hold."""

import dataclasses
import json

import pytest

from clippan_lib.sensors import NUMBERED, SENSORS, Sensor, get_sensor, read_sensor

CUSTOM = {
    "name": "mine",
    "bands": ("green", "blue", "nir"),
    "bits": 12,
    "ratio": 3,
    "gnyq": (0.3, 0.3, 0.25),
    "gnyq_pan": 0.15,
    "rgb": (2, 0, 1),
    "gbnir": (0, 1, 2),
}


@pytest.mark.parametrize(
    ("name", "gnyq", "gnyq_pan"),
    [
        ("QB", (0.34, 0.32, 0.30, 0.22), 0.15),
        ("IKONOS", (0.26, 0.28, 0.29, 0.28), 0.17),
        ("GE1", (0.23,) * 4, 0.16),
        ("WV4", (0.23,) * 4, 0.16),
        ("WV2", (0.35,) * 7 + (0.27,), 0.11),
        ("WV3", (0.325, 0.355, 0.360, 0.350, 0.365, 0.360, 0.335, 0.315), 0.14),
        ("GF2", (0.3,) * 4, 0.15),
    ],
)
def test_the_gains_are_the_toolboxs(name, gnyq, gnyq_pan):
    assert (SENSORS[name].gnyq, SENSORS[name].gnyq_pan) == (gnyq, gnyq_pan)


def test_the_largest_digital_number_follows_from_the_bits():
    assert {name: get_sensor(name).max_value for name in ("WV3", "GF2", "L8")} == {
        "WV3": 2047,
        "GF2": 1023,
        "L8": 65535,
    }


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=SENSORS)
def test_the_display_bands_are_what_they_are_called(sensor):
    assert [sensor.bands[i] for i in sensor.rgb] == ["red", "green", "blue"]
    green, blue, nir = (sensor.bands[i] for i in sensor.gbnir)
    assert (green, blue, nir.rstrip("1")) == ("green", "blue", "nir")


def test_unmeasured_gains_are_marked():
    measured = [name for name, sensor in SENSORS.items() if sensor.measured]
    assert measured == ["QB", "IKONOS", "GE1", "WV2", "WV3", "WV4"]
    for name in SENSORS.keys() - {*measured}:
        assert set(SENSORS[name].gnyq) == {0.3} and SENSORS[name].gnyq_pan == 0.15


@pytest.mark.parametrize(
    ("name", "bands", "bits", "ratio"),
    [
        ("PHR", 4, 12, 4),
        ("PNEO", 6, 12, 4),
        ("SPOT6", 4, 12, 4),
        ("SPOT7", 4, 12, 4),
        ("GF1", 4, 10, 4),
        ("L7", 6, 8, 2),
        ("WVL", 8, 11, 4),
        ("CBERS4A", 4, 10, 4),
        ("K3", 4, 14, 4),
        ("K3A", 4, 14, 4),
        ("ALOS", 4, 8, 4),
        ("SV1", 4, 11, 4),
        ("SKYSAT", 4, 16, 2),
    ],
)
def test_bands_depth_and_ratio_are_those_of_the_makers(name, bands, bits, ratio):
    sensor = get_sensor(name)
    assert (sensor.n_bands, sensor.bits, sensor.ratio) == (bands, bits, ratio)


def test_what_a_provider_numbers_is_a_band_of_the_sensor_or_of_another_resolution():
    for name, table in NUMBERED.items():
        assert set(table.values()) - {"pan", "cirrus", "thermal"} == {*SENSORS[name].bands}
    assert [NUMBERED["L7"][n] for n in (1, 4, 7)] == ["blue", "nir", "swir2"]
    assert [NUMBERED["L8"][n] for n in (1, 4, 7)] == ["coastal", "red", "swir2"]


def test_some_bands_of_a_sensor_keep_their_gains_and_colours():
    part = SENSORS["QB"].only(["nir", "red", "green", "blue"])
    assert part.bands == ("nir", "red", "green", "blue") and part.gnyq == (0.22, 0.30, 0.32, 0.34)
    assert (part.rgb, part.gbnir, part.gnyq_pan) == ((1, 2, 3), (2, 3, 0), 0.15)
    fewer = SENSORS["WV3"].only(["blue", "nir2"])
    assert (fewer.gnyq, fewer.rgb, fewer.gbnir) == ((0.355, 0.315), (0, 0, 0), (0, 0, 0))
    assert part.whole is SENSORS["QB"] and fewer.whole is SENSORS["WV3"]
    mine = Sensor(**CUSTOM)
    assert mine.only(["nir", "green"]).whole.bands == ("nir", "green")


def test_a_band_that_a_sensor_lacks_or_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="sensor QB has no band swir1, x; its own are blue, green, red, nir"):
        SENSORS["QB"].only(["swir1", "blue", "x"])
    with pytest.raises(ValueError, match="bands red, red of sensor QB: give each once"):
        SENSORS["QB"].only(["red", "red"])


def test_names_are_found_in_any_case():
    assert get_sensor("ikonos") is SENSORS["IKONOS"]
    assert get_sensor("SkySat") is SENSORS["SKYSAT"]


def test_an_unknown_sensor_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown sensor 'spot'; known: QB, IKONOS, .*Sensor"):
        get_sensor("spot")


def test_a_sensor_of_ones_own_needs_no_table():
    sensor = Sensor(**CUSTOM)
    assert (sensor.n_bands, sensor.max_value, sensor.measured) == (3, 4095, True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sensor.bits = 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gnyq": (0.3, 0.3)}, "2 gains for 3 bands"),
        ({"gnyq": (0.3, 0.3, 1.0)}, "MTF gain 1.0 is not between 0 and 1"),
        ({"gnyq_pan": 0.0}, "MTF gain 0.0 is not between 0 and 1"),
        ({"rgb": (3, 0, 1)}, r"band index 3 is outside 0\.\.2"),
        ({"gbnir": (0, 1, -1)}, r"band index -1 is outside 0\.\.2"),
        ({"ratio": 1}, "ratio 1 must be 2 or more"),
        ({"ratio": 10**6}, "ratio 1000000 must be 2 or more and at most 64"),
        ({"bits": 10**12}, "bits 1000000000000 1 or more and at most 32"),
        ({"bits": 0}, "bits 0 1 or more"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_the_value_seen(change, message):
    with pytest.raises(ValueError, match=message):
        Sensor(**CUSTOM | change)


def test_a_sensor_comes_back_from_json_and_a_field_that_it_lacks_is_refused():
    sensor = SENSORS["WV3"]
    assert read_sensor(json.loads(json.dumps(dataclasses.asdict(sensor)))) == sensor
    for change, told in (
        ({"offset": 1}, "offset"),
        ({"bits": "11"}, "bits"),
        ({"gnyq": [0.3]}, "1 gains for 8"),
    ):
        with pytest.raises(ValueError, match=told):
            read_sensor({**dataclasses.asdict(sensor), **change})
