"""Print how many microseconds this interpreter takes for a little work, and its path; fail where it cannot make the project's environment.

Interpreters of one version differ by half in speed: some were built with profile-guided optimization, some were not.
"""

import sys
import time

if sys.version_info < (3, 11):  # noqa: UP036  (any Python may be asked)
    sys.exit(1)

import ensurepip  # noqa: F401  (without it there is no pip in a new environment)
import venv  # noqa: F401


class _Pair:
    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number


def _work(depth: int) -> int:
    pairs = {f"{number}": _Pair(str(depth), number) for number in range(200)}
    return sum(pair.number for pair in pairs.values() if pair.name) + (_work(depth - 1) if depth else 0)


def _microseconds() -> int:
    began = time.process_time()
    _work(40)
    return round((time.process_time() - began) * 1e6)


sys.stdout.write(f"{min(_microseconds() for _ in range(15))} {sys.executable}\n")
