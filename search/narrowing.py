"""Access as a query node: what a principal may see is a predicate that every read verb of the store requires.

`Narrowing` maps a resource type to the node that its visible rows satisfy. With auth off it is `EVERYTHING`. Access rules never
filter rows afterwards: a narrowed query's totals, pages and includes are those of a store that holds only the visible rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

from search.query import All, Node


@dataclass(frozen=True, slots=True)
class Narrowing:
    """`of(type)` is the node every visible resource of the type satisfies (`All()`: all of them, `Nothing()`: none).

    `principal` names who is asking, so that a cursor can be bound to its caller; it is never logged. `searched`: where the criteria of a
    write are looked up, `patched`: where what is patched is read, when that is less. `operates`: the principal may see how the server does its work.
    `settled`: no pass of `search.rewrite` would change a node.
    """

    principal: str
    of: Callable[[str], Node]
    searched: "Narrowing | None" = None
    patched: "Narrowing | None" = None
    operates: bool = False
    settled: bool = False


def _all(_type: str) -> Node:
    return All()


EVERYTHING = Narrowing("", _all, operates=True, settled=True)
"""The narrowing of `--auth off` and of the server's own work."""
