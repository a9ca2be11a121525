"""`fhir-server bench`: what this server does on this machine, held against what the machine could do at the same time.

Rules.
1. The server is our own, on a fresh folder; the load comes from another process (`client.py`).
2. Absolute figures of a shared machine mean little: every phase is shown as a share of a limit probed in the same run, and two
   runs are compared by `--compare`.
3. Rates are medians over rounds and count right answers alone; everything else is shown as errors.
"""

from fhir_server.benchmark.client import CannotMeasure
from fhir_server.benchmark.report import compare_files
from fhir_server.benchmark.run import run_benchmark

__all__ = ["CannotMeasure", "compare_files", "run_benchmark"]
