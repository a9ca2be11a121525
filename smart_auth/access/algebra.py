"""Nodes put together, constants folded: the algebra in which rules are written."""

from collections.abc import Sequence

from search.query import All, And, Node, Nothing, Or


def both(*parts: Node) -> Node:
    """All of them: one And, without what always holds; what is Nothing makes Nothing."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, And) else (part,))]
    if any(isinstance(part, Nothing) for part in flat):
        return Nothing()
    kept = tuple(dict.fromkeys(part for part in flat if not isinstance(part, All)))
    return All() if not kept else kept[0] if len(kept) == 1 else And(kept)


def either(parts: Sequence[Node]) -> Node:
    """One of them: one Or, or what always holds; of none Nothing."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, Or) else (part,))]
    if any(isinstance(part, All) for part in flat):
        return All()
    kept = tuple(dict.fromkeys(part for part in flat if not isinstance(part, Nothing)))
    return Nothing() if not kept else kept[0] if len(kept) == 1 else Or(kept)
