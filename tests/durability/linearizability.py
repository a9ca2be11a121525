"""Whether what clients saw of one resource can be told as one sequence of operations, each at a moment between its request and its answer.

The resource is a register: a number of versions, and the value of the current one (None: deleted or never there). An operation whose answer never came may have
happened at any moment between its request and its end (the death of the server, or never: inf), or not at all. The search is Wing and Gong's, remembering the states it came through (Lowe).

https://www.cs.cmu.edu/~wing/publications/WingGong93.pdf, https://www.cs.ox.ac.uk/people/gavin.lowe/LinearizabiltyTesting/paper.pdf
"""

from collections.abc import Sequence
from math import inf
from typing import Literal, NamedTuple

Answer = Literal["done", "refused", "unknown"]


class State(NamedTuple):
    """The number of versions, and the current value."""

    version: int = 0
    value: str | None = None


class Operation(NamedTuple):
    """`begin` and `end` are seconds. `held`: the version that If-Match names (None: no condition).

    Of a put or delete that was done, `version` is the one that was current afterwards; a read saw `version` and `value`, and a deletion as value None with the version, or
    version None where the answer did not tell it.
    """

    kind: Literal["read", "put", "delete"]
    begin: float
    end: float
    answer: Answer = "done"
    version: int | None = None
    value: str | None = None
    held: int | None = None


def after(state: State, operation: Operation) -> State | None:
    """The state behind the operation; None when it cannot have been answered so in this state."""
    told = operation.answer == "done"
    if operation.kind == "read":
        fits = operation.value == state.value and operation.version in (None, state.version)
        return state if fits or not told else None
    allowed = operation.held is None or (state.value is not None and operation.held == state.version)
    if operation.answer == "refused" or not allowed:
        return state if operation.answer != "done" and not allowed else None
    if operation.kind == "put":
        new = State(state.version + 1, operation.value)
    else:
        new = state if state.value is None else State(state.version + 1, None)
    return new if not told or operation.version in (None, new.version) else None


def is_linearizable(operations: Sequence[Operation], start: State = State()) -> bool:  # noqa: B008  (frozen)
    """Whether there is a sequence that explains every answer and keeps the order of operations that did not overlap."""
    ordered = sorted(operations, key=lambda one: one.begin)
    known = sum(1 << index for index, one in enumerate(ordered) if one.answer != "unknown")
    waiting, seen = [(0, start)], {(0, start)}
    while waiting:
        done, state = waiting.pop()
        if done & known == known:
            return True
        for index in _possible(ordered, done):
            new = after(state, ordered[index])
            if new is None or (new == state and ordered[index].answer == "unknown"):
                continue  # what had no effect need not have happened
            if (reached := (done | 1 << index, new)) not in seen:
                seen.add(reached)
                waiting.append(reached)
    return False


def _possible(ordered: Sequence[Operation], done: int) -> list[int]:
    """The operations that may come next: begun before any other that is answered and waits had ended, not ended before one that is done began."""
    found: list[int] = []
    latest = ordered[done.bit_length() - 1].begin if done else -inf
    first_end = inf
    for index, one in enumerate(ordered):
        if one.begin > first_end:
            break
        if done >> index & 1:
            continue
        if one.end >= latest:
            found.append(index)
        if one.answer != "unknown":
            first_end = min(first_end, one.end)
    return [index for index in found if ordered[index].begin <= first_end]
