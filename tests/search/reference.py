"""The reference evaluator: searches over resources in memory, written from the specification alone.

It imports nothing from `search/`. Values are extracted by FHIRPath (fhirpathpy) from the published expressions, once per resource and
parameter; what a parameter means is plain Python per search type. It is slow and simple on purpose.

Specification: https://hl7.org/fhir/R4/search.html
"""

import json
import re
import unicodedata
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache

import fhirpathpy
from fhirpathpy.models import models

from resources.definitions import load
from tests.search.world import BASE

DEFINITIONS = load()
COMPOSITES = {
    "code-value-quantity": ("Observation", "code", "value.as(Quantity)"),
    "component-code-value-quantity": ("Observation.component", "code", "value.as(Quantity)"),
    "combo-code-value-quantity": ("Observation | Observation.component", "code", "value.as(Quantity)"),
}
GENDERS = "http://hl7.org/fhir/administrative-gender"
SYSTEM_OF_CODES = {("Patient", "gender"): GENDERS}


class Reference:
    """`find(type, [(name, value), ...])` gives the ids of what matches."""

    def __init__(self, resources):
        self.by_type = {}
        for text in resources:
            resource = json.loads(text, parse_float=Number, parse_int=Number)
            self.by_type.setdefault(resource["resourceType"], {})[resource["id"]] = resource
        self.values = {}

    def find(self, kind, parameters):
        found = self.by_type.get(kind, {}).values()
        return {one["id"] for one in found if all(self.holds(one, one, name, value) for name, value in parameters)}

    # ---- names

    def holds(self, resource, container, name, value):
        """Whether a resource, inside `container` or that itself, satisfies one parameter."""
        if name.startswith("_has:"):
            source, code, rest = name.removeprefix("_has:").split(":", 2)
            return any(
                self.refers(one, code, resource, container) and self.holds(one, one, rest, value)
                for one in self.by_type.get(source, {}).values()
            )
        first, dot, rest = name.partition(".")
        code, _, modifier = first.partition(":")
        if dot:
            return any(
                self.knows(target["resourceType"], rest) and self.holds(target, owner, rest, value)
                for target, owner in self.followed(resource, container, code, modifier)
            )
        if code == "_id":
            return resource is container and resource["id"] in value.split(",")
        if modifier == "missing":
            return (not self.entries(resource, code)) == (value == "true")
        if modifier == "not":
            return not any(self.matches(resource, code, "", one) for one in value.split(","))
        return any(self.matches(resource, code, modifier, one) for one in value.split(","))

    def knows(self, kind, rest):
        if rest.startswith(("_has:", "_id")):
            return True
        return definition(kind, re.split("[.:]", rest)[0]) is not None

    def refers(self, source, code, resource, container):
        """Whether a stored resource refers to this one; to a contained one only what contains it can."""
        if resource is not container:
            return source is container and any(to is resource for to, _ in self.followed(source, source, code, ""))
        return (resource["resourceType"], resource["id"]) in self.targets(source, code)

    def targets(self, resource, code):
        """(type, id) of the stored resources that a reference parameter names."""
        return {
            found
            for _, one in self.entries(resource, code)
            if isinstance(one, dict) and (found := local(one.get("reference")))
        }

    def followed(self, resource, container, code, modifier):
        """The resources that a reference leads to, each with what contains it."""
        only = modifier or only_target(resource["resourceType"], code)
        for _, one in self.entries(resource, code):
            text = one.get("reference") or ""
            if text.startswith("#"):
                for inner in container.get("contained", ()):
                    if inner["id"] == text[1:] and only in ("", None, inner["resourceType"]):
                        yield inner, container
                continue
            found = local(text)
            target = self.by_type.get(found[0], {}).get(found[1]) if found else None
            if target is not None and only in ("", None, found[0]):
                yield target, target

    # ---- values

    def entries(self, resource, code):
        """(path of the element, value) of a parameter on a resource."""
        key = (id(resource), code)
        if key not in self.values:
            self.values[key] = extract(resource, code)
        return self.values[key]

    def matches(self, resource, code, modifier, text):
        kind = resource["resourceType"]
        row = definition(kind, code)
        if row.type == "composite":
            return composite(resource, code, text)
        found = self.entries(resource, code)
        if row.type == "reference":
            return any(reference(one, modifier, text, only_target(kind, code), row.targets) for _, one in found)
        if row.type == "token":
            return any(token(one, text, SYSTEM_OF_CODES.get((kind, code), "")) for _, one in found)
        if row.type == "string":
            return any(string(one, modifier, text, family=code == "family") for _, one in found)
        test = {"date": date, "number": number, "quantity": quantity, "uri": uri}[row.type]
        return any(test(one, modifier, text) for _, one in found)


class Number(Decimal):
    """A number of a resource."""


@cache
def definition(kind, code):
    for row in DEFINITIONS.search_parameters:
        if row.code == code and (kind in row.bases or "Resource" in row.bases):
            return row
    return None


def expression(kind, code):
    parts = [part.strip() for part in definition(kind, code).expression.split(" | ")]
    found = [
        re.sub(r"\.where\(resolve\(\) is \w+\)", "", part)
        for part in parts
        if re.match(rf"\(?({kind}|Resource)\b", part)
    ]
    # `as` is for one item; published expressions use it on many, as the specification knows
    return re.sub(r"\(([\w.]+) as (\w+)\)", r"\1.ofType(\2)", " | ".join(found)).replace(".as(", ".ofType(")


def only_target(kind, code):
    found = re.search(r"resolve\(\) is (\w+)", definition(kind, code).expression)
    return found[1] if found else None


@cache
def compiled(kind, code):
    return fhirpathpy.compile(expression(kind, code), models["r4"])


def extract(resource, code):
    kind = resource["resourceType"]
    only = only_target(kind, code) if definition(kind, code).type == "reference" else None
    found = []
    for value in compiled(kind, code)(resource):
        if only is not None and target_type(value) not in (None, only):
            continue
        if only is not None and target_type(value) is None and value.get("reference"):
            continue
        found.append((code, value))
    return [pair for pair in found if pair[1] not in ({}, None)]


def target_type(value):
    found = re.search(r"([A-Z][A-Za-z]+)/[^/]+(/_history/[^/]+)?$", value.get("reference") or "")
    return found[1] if found else None


# ---- https://hl7.org/fhir/R4/search.html#string


def fold(text):
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(re.sub(r"[^\w\s]", " ", plain.replace("'", "").replace(".", "")).replace("ø", "o").split())


def texts(value, family):
    """(text, whether later words count) of a string value."""
    if isinstance(value, str):
        return [(value, family)]
    found = [(value[name], name == "family") for name in ("text", "family") if name in value]
    for name in ("given", "prefix", "suffix", "line"):
        found += [(one, False) for one in value.get(name, ())]
    return found + [
        (value[name], False) for name in ("city", "district", "state", "postalCode", "country") if name in value
    ]


def string(value, modifier, text, *, family):
    for one, words in texts(value, family):
        whole = fold(one)
        starts = [whole, *((" ".join(whole.split()[at:]) for at in range(1, len(whole.split()))) if words else ())]
        if modifier == "exact" and one == text:
            return True
        if modifier == "contains" and fold(text) in whole:
            return True
        if not modifier and any(start.startswith(fold(text)) for start in starts):
            return True
    return False


# ---- https://hl7.org/fhir/R4/search.html#token


def token(value, text, implicit):
    system, bar, code = text.rpartition("|")
    for its_system, its_code in codes(value, implicit):
        if bar and not system and its_system:
            continue
        if system and its_system != system:
            continue
        if code and (its_code or "").casefold() != code.casefold():
            continue
        if code or system:
            return True
    return False


def codes(value, implicit):
    if isinstance(value, bool):
        return [("", str(value).lower())]
    if isinstance(value, str):
        return [(implicit, value)]
    if "coding" in value:
        return [(one.get("system", ""), one.get("code")) for one in value["coding"]]
    if "value" in value:
        phone = value.get("system") in ("phone", "email", "fax", "url", "sms", "pager", "other")
        return [("" if phone else value.get("system", ""), value["value"])]
    return [(value.get("system", ""), value.get("code"))] if "code" in value else []


# ---- https://hl7.org/fhir/R4/search.html#date

PREFIX = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)(?=[-+0-9.])")
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def prefixed(text):
    found = PREFIX.match(text)
    return (found[1], text[2:]) if found else ("eq", text)


def span(text):
    """The first and last moment that a date or time means."""
    text = str(text)
    if "T" not in text:
        year, month, day = ([int(part) for part in text.split("-")] + [0, 0])[:3]
        start = datetime(year, month or 1, day or 1, tzinfo=UTC)
        days = 1 if day else monthrange(year, month)[1] if month else 366 if monthrange(year, 2)[1] == 29 else 365
        return start, start + timedelta(days=days) - TICK
    moment = datetime.fromisoformat(text)
    fraction = re.search(r"\.(\d+)", text)
    width = timedelta(seconds=1) if fraction is None else timedelta(microseconds=10 ** (6 - len(fraction[1])))
    return moment, moment + width - TICK


def range_of(value):
    if isinstance(value, dict):
        return (span(value["start"])[0] if "start" in value else FIRST), (
            span(value["end"])[1] if "end" in value else LAST
        )
    return span(value)


def date(value, _modifier, text):
    prefix, rest = prefixed(text)
    (low, high), (first, last) = range_of(value), span(rest)
    inside = first <= low and high <= last
    return {
        "eq": inside,
        "ne": not inside,
        "gt": high > last,
        "lt": low < first,
        "ge": high > last or inside,
        "le": low < first or inside,
        "sa": low > last,
        "eb": high < first,
    }[prefix]


# ---- https://hl7.org/fhir/R4/search.html#number, #quantity


def implied(text, factor=1):
    """[low, high) of a number's implicit precision, for these all without exponent."""
    digits = len(text.partition(".")[2])
    half = Decimal(5).scaleb(-digits - 1)
    return (Decimal(text) - half) * factor, (Decimal(text) + half) * factor


def compared(value, text, factor=1):
    prefix, rest = prefixed(text)
    exact = Decimal(rest) * factor
    low, high = implied(rest, factor)
    if prefix == "ap":
        half = max((high - low) / 2, abs(exact) / 10)
        low, high = exact - half, exact + half
    return {
        "eq": low <= value < high,
        "ap": low <= value < high,
        "ne": not low <= value < high,
        "gt": value > exact,
        "lt": value < exact,
        "ge": value >= exact,
        "le": value <= exact,
        "sa": value > exact,
        "eb": value < exact,
    }[prefix]


def number(value, _modifier, text):
    return compared(value, text)


GRAMS = {"mg": Decimal("0.001"), "g": Decimal(1)}
UCUM = "http://unitsofmeasure.org"


def quantity(value, _modifier, text):
    if "value" not in value:
        return False
    amount, *unit = text.split("|")
    if not unit:
        return compared(value["value"], amount)
    system, code = unit
    if system == UCUM and code in GRAMS:
        mine = GRAMS.get(value.get("code")) if value.get("system") == UCUM else None
        return mine is not None and compared(value["value"] * mine, amount, GRAMS[code])
    if system and value.get("system") != system:
        return False
    if code and code not in (value.get("code"), value.get("unit")):
        return False
    return compared(value["value"], amount)


# ---- https://hl7.org/fhir/R4/search.html#reference, #uri


def local(text):
    """(type, id) of a reference to this server."""
    if not text:
        return None
    text = text.removeprefix(f"{BASE}/")
    found = re.fullmatch(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]+)(/_history/.+)?", text)
    return (found[1], found[2]) if found else None


def reference(value, modifier, text, only, targets):
    if modifier == "identifier":
        return "identifier" in value and token(value["identifier"], text, "")
    mine = value.get("reference")
    if mine is None or mine.startswith("#"):
        return False
    if modifier:
        return local(mine) == (modifier, text.rpartition("/")[2])
    wanted = local(text)
    if wanted is not None:
        version = re.search(r"/_history/(.+)$", text)
        same = local(mine) == wanted
        return same and (version is None or mine.endswith(version[0]))
    if "://" in text:
        return mine == text
    found = local(mine)
    return found is not None and found[1] == text and (found[0] == only if only else found[0] in targets)


def uri(value, modifier, text):
    if modifier == "below":
        return value == text or value.startswith(text.rstrip("/") + "/")
    if modifier == "above":
        return value == text or text.startswith(value.rstrip("/") + "/")
    return value == text


# ---- https://hl7.org/fhir/R4/search.html#composite


@cache
def path(text):
    return fhirpathpy.compile(text, models["r4"])


def composite(resource, code, text):
    context, left, _ = COMPOSITES[code]
    first, second = text.split("$")
    for part in context.split(" | "):
        for one in path(part)(resource):
            right = [one["valueQuantity"]] if "valueQuantity" in one else []
            if any(token(value, first, "") for value in [one.get(left)] if value) and any(
                quantity(value, "", second) for value in right
            ):
                return True
    return False
