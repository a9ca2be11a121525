"""Queries as short texts, so that cases can be data: `and(code=s|a, not(present(subject))) sort -date`."""

from resources.model import instant
from search.query import (
    All,
    And,
    Chain,
    CompositeTest,
    DateTest,
    EveryTarget,
    HasId,
    InCompartment,
    InCompartments,
    LastUpdated,
    Match,
    Not,
    Nothing,
    NumberTest,
    Or,
    OwnedBy,
    Present,
    QuantityTest,
    ReferenceTest,
    Released,
    Reverse,
    StringTest,
    TextTest,
    TokenTest,
    UnlikeTest,
    UriTest,
)


def show(query):
    """The whole query; what is as usual (count 20, no sort, no total, no includes, no narrowing) is left out."""
    parts = [show_node(query.where)]
    parts += [f"sort {'-' if key.descending else ''}{key.field}" for key in query.sort]
    parts += [f"count {query.count}"] if query.count != 20 else []
    parts += [f"total {query.total}"] if query.total != "none" else []
    parts += [
        f"{'revinclude' if one.reverse else 'include'}{':iterate' if one.iterate else ''} {one.source or '*'}"
        f":{one.parameter.code if one.parameter else '*'}:{one.target or '*'}"
        for one in query.includes
    ]
    parts += [f"narrowing {show_node(query.narrowing)}"] if query.narrowing != All() else []
    parts += [f"contained {query.contained}"] if query.contained != "no" else []
    parts += [f"| {show(other)}" for other in query.others]
    return " ".join(parts)


def show_node(node):
    match node:
        case All():
            return "all"
        case Nothing():
            return "nothing"
        case And(parts) | Or(parts):
            return f"{type(node).__name__.lower()}({', '.join(map(show_node, parts))})"
        case Not(part):
            return f"not({show_node(part)})"
        case Match(parameter, test, identifier):
            return f"{parameter.code}{':identifier' if identifier else ''}={show_test(test)}"
        case Present(parameter):
            return f"present({parameter.code})"
        case HasId(ids):
            return f"id({','.join(ids)})"
        case LastUpdated(test):
            return f"updated={show_test(test)}"
        case Chain(parameter, target, where, visible):
            seen = "" if visible == All() else f", visible {show_node(visible)}"
            return f"chain({parameter.code}:{target}, {show_node(where)}{seen})"
        case Reverse(source, parameter, where):
            return f"has({source}:{parameter.code}, {show_node(where)})"
        case InCompartment(owner):
            return f"in({owner})"
        case OwnedBy(organizations, unowned):
            return f"owned({','.join(map(str, organizations))}{' or unowned' if unowned else ''})"
        case Released():
            return "released"
        case InCompartments(owners):
            return f"in({', '.join(f'{owners.type}/{one}' for one in sorted(owners.ids))})"
        case EveryTarget(parameter, visible):
            return f"every({parameter.code}, {'; '.join(f'{name} {show_node(one)}' for name, one in visible)})"


def show_test(test):
    match test:
        case UnlikeTest(inner):
            return f"unlike {show_test(inner)}"
        case TokenTest(system, codes):
            code = "*" if codes is None else ",".join(codes)
            return code if system is None else f"{system}|{code}"
        case StringTest(mode, text):
            return f"{mode} {text!r}"
        case DateTest(prefix, low, high):
            return f"{prefix} {_time(low)}..{_time(high)}"
        case NumberTest(prefix, low, high):
            return f"{prefix} {low}" if low == high else f"{prefix} {low}..{high}"
        case QuantityTest(number, system, code, canonical):
            unit = "" if code is None else f" {system or '*'}|{code}"
            return f"{show_test(number)}{unit}{'' if canonical is None else f' = {show_test(canonical[0])} {canonical[1]}'}"
        case ReferenceTest(keys, url, version):
            return f"{','.join(map(str, keys))}{url or ''}{'' if version is None else f'@{version}'}"
        case TextTest(text):
            return f"text {text!r}"
        case UriTest(mode, text):
            return f"{mode} {text}"
        case CompositeTest(parts):
            return "$".join(map(show_test, parts))


def _time(microseconds):
    text = instant(microseconds)
    return text.replace("T00:00:00.000000Z", "").replace("T23:59:59.999999Z", "+").replace(".000000Z", "Z")
