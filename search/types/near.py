"""`near` of Location: positions within a distance of a place.

Rules. `near=latitude|longitude|distance|units`; without units the distance is in kilometres, without distance it is 10 of them. Positions are kept in
millionths of a degree (11 cm). A distance is that on a sphere of 6,371,008.8 m, and the edge counts as near.

Specification: https://hl7.org/fhir/R4/location.html#search
"""

import re
from decimal import Decimal
from math import asin, cos, pi, radians, sin, sqrt
from typing import Any, Final

from resources.definitions.model import Element
from search import values
from search.entries import PositionEntry
from search.parameters import Parameter
from search.query import NearTest
from search.types.making import Maker, Making, Scope
from search.values import ValueContext
from terminology import ucum

MICRO: Final = 1_000_000
_RADIUS: Final = 6_371_008.8
_POLE: Final = 90
_ANTIMERIDIAN: Final = 180
_USUAL: Final = "10"
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,18})?")


def tests(parameter: Parameter, modifier: str | None, value: str, context: ValueContext) -> tuple[NearTest, ...]:
    """The test of one place; no modifiers."""
    del context
    if modifier is not None:
        raise values.unfit(parameter, modifier)
    parts = [values.unescape(parameter.code, part) for part in values.split(value, "|")]
    if not 2 <= len(parts) <= 4:  # noqa: PLR2004
        raise values.invalid(parameter.code, value, "is not latitude|longitude|distance|units")
    latitude, longitude, distance, unit = (*parts, *("", "")[: 4 - len(parts)])
    for text in (latitude, longitude, distance or _USUAL):
        if _NUMBER.fullmatch(text) is None:
            raise values.invalid(parameter.code, value, f"has no number: '{text}'")
    place = Decimal(latitude), Decimal(longitude)
    if abs(place[0]) > _POLE or abs(place[1]) > _ANTIMERIDIAN:
        raise values.invalid(parameter.code, value, "is no place: latitude is -90 to 90, longitude -180 to 180")
    metres = ucum.canonical(Decimal(distance or _USUAL), unit or "km")
    if metres is None or metres[1] != "m":
        raise values.invalid(parameter.code, value, f"has a unit that is no UCUM length: '{unit}'")
    if metres[0] < 0:
        raise values.invalid(parameter.code, value, "has a negative distance")
    return (NearTest(_micro(place[0]), _micro(place[1]), float(metres[0])),)


def match(entry: PositionEntry, test: NearTest) -> bool:
    """Whether the position is near enough."""
    return distance(entry.latitude, entry.longitude, test.latitude, test.longitude) <= test.metres


def distance(latitude: int, longitude: int, other_latitude: int, other_longitude: int) -> float:
    """Metres between two places in millionths of a degree, by the haversine formula."""
    first, second = radians(latitude / MICRO), radians(other_latitude / MICRO)
    half = sin((second - first) / 2) ** 2
    half += cos(first) * cos(second) * sin(radians((other_longitude - longitude) / MICRO) / 2) ** 2
    return 2 * _RADIUS * asin(min(1.0, sqrt(half)))


def box(test: NearTest) -> tuple[tuple[int, int], tuple[tuple[int, int], ...]]:
    """Closed ranges of latitude, and of longitude (two across the antimeridian), outside of which nothing is near."""
    angle = test.metres / _RADIUS
    reach = int(angle * 180 / pi * MICRO) + 2
    low, high = test.latitude - reach, test.latitude + reach
    whole = _ANTIMERIDIAN * MICRO
    if low <= -_POLE * MICRO or high >= _POLE * MICRO:
        return (max(low, -_POLE * MICRO), min(high, _POLE * MICRO)), ((-whole, whole),)
    width = int(asin(min(1.0, sin(angle) / cos(radians(test.latitude / MICRO)))) * 180 / pi * MICRO) + 2
    west, east = test.longitude - width, test.longitude + width
    if west < -whole:
        return (low, high), ((-whole, east), (west + 2 * whole, whole))
    if east > whole:
        return (low, high), ((west, whole), (-whole, east - 2 * whole))
    return (low, high), ((west, east),)


def maker(code: str, kind: str, element: Element | None, making: Making) -> Maker | None:
    """How entries of row `code` are made from a Location.position."""
    del element, making
    if kind != "Location.position":
        return None

    def make(value: Any, scope: Scope, group: int) -> None:
        del group
        latitude, longitude = value.get("latitude"), value.get("longitude")
        if (
            latitude is not None
            and longitude is not None
            and abs(latitude) <= _POLE
            and abs(longitude) <= _ANTIMERIDIAN
        ):
            scope.entries.positions.append(PositionEntry(code, _micro(latitude), _micro(longitude)))

    return make


def _micro(degrees: Decimal | int) -> int:
    return int((Decimal(degrees) * MICRO).to_integral_value())
