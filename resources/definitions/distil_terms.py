"""Value sets and code systems, distilled: required value sets enumerated, everything else kept for the terminology service.

Rules.
1. A code system's codes are enumerated with their descendants, abstract ones too; `content` must be complete or a fragment.
2. An include or exclude is the codes of its system (all, those listed, or those its filters pass) AND of each value set named.
3. What cannot be enumerated is absent: mime types, UCUM units, LOINC's list LL379-9. Currencies are ISO 4217's, listed here.

Specification: https://hl7.org/fhir/R4/valueset.html#compositions, https://hl7.org/fhir/R4/codesystem.html
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

Pairs: TypeAlias = set[tuple[str, str]]

CURRENCIES = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE "
    "CHF CHW CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ "
    "GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL "
    "LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN "
    "PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD "
    "TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAF XAG XAU XBA XBB XBC XBD XCD XDR XOF XPD XPF XPT XSU "
    "XTS XUA XXX YER ZAR ZMW ZWL"
)
"""ISO 4217's active codes and those withdrawn since R4 (HRK, SLL): data of that time stays valid."""

_CURRENCY_SYSTEM = "urn:iso:std:iso:4217"
_UCUM = "http://unitsofmeasure.org"


class NotEnumerableError(Exception):
    """A value set needs codes that the package does not have; the text names the system, value set or filter."""


class Expander:
    """Enumerates value sets from the package's own code systems."""

    def __init__(self, value_sets: Mapping[str, Mapping[str, Any]], systems: Mapping[str, Mapping[str, Any]]) -> None:
        self._value_sets = value_sets
        self._systems = systems

    def expand(self, url: str) -> Pairs:
        """The (system, code) pairs of a value set. Raises NotEnumerableError."""
        if url not in self._value_sets:
            raise NotEnumerableError(url)
        compose = self._value_sets[url]["compose"]
        found: Pairs = set().union(*(self._part(part) for part in compose.get("include", ())))
        return found.difference(*(self._part(part) for part in compose.get("exclude", ())))

    def _part(self, part: Mapping[str, Any]) -> Pairs:
        sets = [self.expand(url.partition("|")[0]) for url in part.get("valueSet", ())]
        if "system" in part:
            sets.append({(part["system"], code) for code in self._codes(part)})
        return set.intersection(*sets)

    def _codes(self, part: Mapping[str, Any]) -> set[str]:
        if "concept" in part:
            return {concept["code"] for concept in part["concept"]}
        system = part["system"]
        if system == _CURRENCY_SYSTEM and not part.get("filter"):
            return set(CURRENCIES.split())
        published = self._systems.get(system)
        if published is None or published["content"] not in ("complete", "fragment"):
            raise NotEnumerableError(system)
        parents = {code: parent for code, parent, _display in concepts(published)}
        codes = set(parents)
        for test in part.get("filter", ()):
            codes &= _passing(test, parents)
        return codes


def _passing(test: Mapping[str, Any], parents: Mapping[str, Sequence[str]]) -> set[str]:
    if test["property"] != "concept" or test["op"] not in ("is-a", "is-not-a", "descendent-of"):
        raise NotEnumerableError(f"{test['property']} {test['op']} {test['value']}")
    top = test["value"]
    below: set[str] = set()
    pending = {top}
    while pending:
        pending = {code for code, above in parents.items() if pending.intersection(above)} - below
        below |= pending
    match test["op"]:
        case "is-a":
            return below | {top}
        case "descendent-of":
            return below
    return set(parents) - below - {top}


def concepts(system: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str], str | None]]:
    """Every concept of a CodeSystem: code, codes of its parents, display. Nesting and the property `child` both make parents."""
    flat = list(_nested(system.get("concept", ()), None))
    parents: dict[str, list[str]] = {concept["code"]: [] for concept, _above in flat}
    for concept, above in flat:
        if above is not None and above not in parents[concept["code"]]:
            parents[concept["code"]].append(above)
        for fact in concept.get("property", ()):
            child = fact.get("valueCode")
            if fact["code"] == "child" and child in parents and concept["code"] not in parents[child]:
                parents[child].append(concept["code"])
    for concept, _above in flat:
        yield concept["code"], parents[concept["code"]], concept.get("display")


def _nested(found: Sequence[Mapping[str, Any]], above: str | None) -> Iterator[tuple[Mapping[str, Any], str | None]]:
    for concept in found:
        yield concept, above
        yield from _nested(concept.get("concept", ()), concept["code"])


def code_systems(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The part `code_systems`: url -> version, name, title, content, caseSensitive, and concepts as [code, parents, display]."""
    kept = ("version", "name", "title", "content", "caseSensitive", "hierarchyMeaning", "supplements", "valueSet")
    return {
        url: {
            **{key: system[key] for key in kept if key in system},
            "concepts": [list(row) for row in concepts(system)],
        }
        for url, system in systems.items()
    }


def value_set_definitions(value_sets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The part `value_set_definitions`: url -> version, name, title and compose."""
    kept = ("version", "name", "title", "compose")
    return {url: {key: found[key] for key in kept if key in found} for url, found in value_sets.items()}


def required_value_sets(
    required: set[str], expander: Expander, systems: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The part `value_sets`: `required` (url -> system -> codes, None when not enumerable) and `case_sensitive` systems."""
    rows: dict[str, dict[str, list[str]] | None] = {}
    for url in required:
        try:
            pairs = expander.expand(url)
        except NotEnumerableError:
            rows[url] = None  # the absence itself is the datum: a lexical check is all there is
            continue
        by_system: dict[str, list[str]] = defaultdict(list)
        for system, code in sorted(pairs):
            by_system[system].append(code)
        rows[url] = dict(by_system)
    sensitive = {url for url, system in systems.items() if system.get("caseSensitive")} | {_UCUM}
    return {"required": rows, "case_sensitive": sorted(sensitive)}
