"""What a file says of its bands: descriptions and colour tags, read as names of bands."""

import re
from collections import Counter
from dataclasses import dataclass

from rasterio import DatasetReader

from clippan_lib.errors import DataError
from clippan_lib.sensors import NUMBERED, Sensor

# Longer ones first: what one has matched is no longer there for the next ("red edge" holds no "red")
_WORDS = (
    ("coastal", "coastal(?: aerosol| blue)?|deep blue|ultra ?blue|aerosol"),
    ("thermal", "thermal(?: infra ?red)?|tirs?|lwir|mwir"),
    ("swir", "short ?wave(?: ?infra ?red| ir)?|swir"),
    ("red_edge", "(?:vegetation )?red ?edge"),
    ("nir", "near ?infra ?red|near ir|nir|infra ?red"),
    ("cirrus", "cirrus"),
    ("pan", "pan(?:chromatic)?"),
    ("yellow", "yellow"),
    ("blue", "blue"),
    ("green", "green"),
    ("red", "red"),
)
_LETTERS = {"b": "blue", "g": "green", "r": "red", "n": "nir", "ir": "nir"}
# of Maxar
_LETTERS |= {f"band {letter}": name for letter, name in _LETTERS.items()}
_LETTERS |= {"band c": "coastal", "band y": "yellow", "band re": "red_edge", "band n2": "nir2"}
_COMMON = {"nir8": "nir1", "nir9": "nir2", "swir16": "swir1", "swir22": "swir2"}  # names of STAC
_SEVERAL = ("swir", "red_edge", "nir")  # of which a sensor may have more than one
_TAGS = {name: name for name in ("coastal", "blue", "green", "yellow", "red", "nir", "swir", "pan")}
_TAGS |= {"rededge": "red_edge", "tir": "thermal", "lwir": "thermal", "mwir": "thermal"}


@dataclass(frozen=True)
class Said:
    """What a file says of its bands.

    Args:
        names: number from 1 to the band's name, the sensor's own if there is one; numbers of which nothing is known,
            or which are none of the sensor's, are not there.
        words: the same bands to how the file puts it.
        doubtful: numbers known only by the colours red, green, blue that GDAL gives to any 8-bit file.
        others: numbers that are known to be no band of the sensor.
    """

    names: dict[int, str]
    words: dict[int, str]
    doubtful: frozenset[int]
    others: frozenset[int]


def plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def in_words(description: str) -> str:
    """The one band that a description speaks of ("Band 4 - Red (655 nm)": red), "" if it is none or several."""
    text = _spaced(description)
    if letter := _LETTERS.get(text):
        return letter
    found = set()
    for name, pattern in _WORDS:
        for match in re.finditer(rf"\b(?:{pattern})(?: ?0?(\d{{1,2}}))?\b", text):
            numbered = f"{name}{match[1] or ''}"
            one_of = name in _SEVERAL and re.fullmatch(r"\D+[1-8]", _COMMON.get(numbered, numbered))
            found.add(one_of[0] if one_of else name)
        text = re.sub(rf"\b(?:{pattern})(?= ?\d|\b)", "_", text)
    found -= {family(name) for name in found if name != family(name)}  # "short wave infrared, SWIR 1"
    return found.pop() if len(found) == 1 else ""


def number_of(description: str) -> int | None:
    """The n of a description such as "B4", "SR_B4", "B04" or "Band 4", None if it has none, or several."""
    found = {int(n) for n in re.findall(r"\bb(?:and)? ?(\d{1,2})\b", _spaced(description))}
    return found.pop() if len(found) == 1 else None


def family(name: str) -> str:
    """A band's name without its number."""
    return name.rstrip("0123456789")


def own_name(name: str, sensor: Sensor) -> str:
    """The band of a sensor that a user means by a name, "" if there is none; nir of WorldView-2 and -3 is nir1."""
    if named := [band for band in sensor.bands if plain(band) == plain(name)]:
        return named[0]
    number, word = number_of(name), in_words(name)
    if not word and number is not None:
        word = NUMBERED.get(sensor.name, {}).get(number, "")
    alike = [band for band in sensor.bands if word and family(band) == family(word)]
    if word in alike:
        return word
    if word == family(word) and len(alike) > 1:
        return alike[0] if word == "nir" else ""
    return alike[0] if len(alike) == 1 else ""


def read_identity(ms: DatasetReader, stored: list[int], sensor: Sensor | None) -> Said:
    """What each band is, by descriptions and colour tags, which must not contradict one another.

    Args:
        ms: the file.
        stored: numbers of its bands, without masks.
        sensor: knows bands by number ("B4"), and which of its own a name means.
    Raises: DataError with both where a description and a tag, or the word and the number of a description, do not fit.
    """
    texts = {number: ms.descriptions[number - 1] or "" for number in stored}
    tags = {number: _TAGS.get(ms.colorinterp[number - 1].name, "") for number in stored}
    by_number = _by_number(texts, sensor)
    # any 8-bit file of three or four bands, unless its writer says otherwise
    defaults = (
        ms.dtypes[0] == "uint8" and ms.count in (3, 4) and [*tags.values()][:3] == ["red", "green", "blue"]
    )
    names, words, doubtful = {}, {}, set()
    for number, text in texts.items():
        own = [band for band in sensor.bands if plain(band) == plain(text)] if sensor and text else []
        word, coded, tag = own[0] if own else in_words(text), by_number.get(number, ""), tags[number]
        if sensor and word and coded and family(word) != family(coded):
            raise DataError(
                f"{ms.name}: band {number} is described as {text!r}, but B{number_of(text)} of {sensor.name} is "
                f"{coded}; correct `sensor`, or the description"
            )
        told = word if word and word != family(word) else coded or word
        if told and tag and family(told) != family(tag) and not defaults:
            raise DataError(
                f"{ms.name}: band {number} is described as {text!r}, but its colour is tagged {tag}; correct one of "
                f"them (gdal_edit.py -colorinterp_{number} undefined takes the tag away)"
            )
        if told or tag:
            names[number], words[number] = told or tag, text if told else tag
            doubtful |= {number} if defaults and not told else set()
    known = names.keys()
    names = _own_names(names, sensor) if sensor else names
    return Said(names, words, frozenset(doubtful), frozenset(known - names.keys()))


def _spaced(text: str) -> str:
    """Lower case, words and numbers apart from one another by one blank."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
    return " ".join(re.findall(r"[^\W_]+", apart))


def _by_number(texts: dict[int, str], sensor: Sensor | None) -> dict[int, str]:
    """Bands by the sensor's numbers, if all that are there are numbers of the sensor."""
    table = NUMBERED.get(sensor.name) if sensor else None
    found = {number: n for number, text in texts.items() if (n := number_of(text)) is not None}
    if not sensor or not table or not found or not set(found.values()) <= table.keys():
        return {}
    # "Band 1" of a file's first band is how many programs call what they know nothing of
    if all(n == number and "band" in texts[number].lower() for number, n in found.items()):
        return {}
    # where a provider's first band is B0, B1 may still be somebody else's first
    if table.get(0) in sensor.bands and 0 not in found.values():
        return {}
    return {number: table[n] for number, n in found.items()}


def _own_names(names: dict[int, str], sensor: Sensor) -> dict[int, str]:
    """Names of the sensor's own bands; several that are called alike are its own of that kind, in order."""
    counts, found = Counter(names.values()), {}
    for number, name in names.items():
        alike = [band for band in sensor.bands if family(band) == name and band != name]
        if len(alike) == counts[name] and name not in sensor.bands:
            own = alike[[n for n in names if names[n] == name].index(number)]
        else:
            own = own_name(name, sensor)
        if own:
            found[number] = own
    return found
