"""Which area is seen, and what is kept at hand around it."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from clippan_lib.explore.areas import Cover, area_around, cover_of

SIDES = some.integers(64, 600)


@pytest.mark.parametrize(
    ("centre", "expected"),
    [((50, 60), (32, 44, 32)), ((0, 0), (0, 0, 32)), ((99, 120), (68, 96, 32)), ((51, 61), (32, 44, 32))],
)
def test_an_area_lies_around_its_centre_inside_and_on_the_grid(centre, expected):
    assert area_around(centre, 32, (100, 128), 4) == expected


def test_a_cover_is_the_area_with_half_its_side_around_it():
    assert cover_of((100, 200, 64), (400, 800), 64, 4, None) == Cover(68, 168, 128, 128, 1)
    assert cover_of((0, 360, 40), (400, 400), 64, 4, None) == Cover(0, 340, 60, 60, 1)


def test_a_cover_has_as_many_pixels_as_the_screen_and_fewer_than_twice():
    assert [cover_of((0, 0, size), (4096, 4096), 250, 4, None).factor for size in (499, 500, 999, 1000)] == [
        1,
        2,
        2,
        4,
    ]


def test_a_cover_stays_while_it_shows_the_area_finely_enough():
    first = cover_of((100, 100, 64), (400, 400), 64, 4, None)
    for area in ((100, 100, 64), (68, 132, 64), (120, 120, 32)):
        assert cover_of(area, (400, 400), 64, 4, first) is first
    for area in ((64, 100, 64), (100, 136, 64), (40, 40, 192)):
        assert cover_of(area, (400, 400), 64, 4, first) is not first
    coarse = Cover(0, 0, 400, 400, 4)
    assert cover_of((100, 100, 64), (400, 400), 64, 4, coarse).factor == 1


@given(SIDES, SIDES, some.data())
def test_any_cover_shows_its_area_and_lies_inside(height, width, data):
    size = data.draw(some.integers(8, min(height, width)))
    centre = data.draw(some.tuples(some.integers(0, height - 1), some.integers(0, width - 1)))
    area = area_around(centre, size, (height, width), 4)
    cover = cover_of(area, (height, width), 100, 4, None)
    assert cover.shows(area, cover.factor) and cover.top % 4 == cover.left % 4 == 0
    assert cover.top + cover.height <= height and cover.left + cover.width <= width
