"""How much one search may ask for. Beyond a limit: 400 that names it, save `page_limit`, to which `_count` is lowered."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """`page` matches when `_count` is absent, at most `page_limit`.

    `conditions` parameters joined by AND, `alternatives` values joined by OR in one of them, `sort_keys` of `_sort`, `includes`
    parameters. `depth` references that one parameter looks through, `types` that an untyped step may mean, `steps` of all
    parameters together. `full_text`: whether words are indexed, for `_text` and `_content`; it makes writing several times dearer.
    """

    page: int = 20
    page_limit: int = 1000
    conditions: int = 100
    alternatives: int = 500
    sort_keys: int = 8
    includes: int = 20
    depth: int = 8
    types: int = 16
    steps: int = 64
    full_text: bool = False
