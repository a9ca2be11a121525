"""`fhir-server load`: files into the store, beside a running server or without one.

The way: files -> (N processes) decode, check as POST does, extract, plan -> units of work -> (this process) one writer.

Rules.
1. A transaction Bundle is carried out as POST would. A collection Bundle, a lone resource and the lines of NDJSON are written
   under their own ids (as PUT); links between entries of a collection are rewritten as in a transaction.
2. A Bundle succeeds or fails as a whole; a line of NDJSON by itself.
3. The ledger (follow-up rows of kind `ledger`, `<sha256 of the content>/<first part>`) is committed in the same unit as what it
   records: a second run adds nothing, and a run that was killed goes on where it was. A file's parts are its lines, or itself.
4. Files that others refer to by identifier come first (Synthea's hospital and practitioner files). What fails is tried once more at
   the end, when everything else is there.
5. One load at a time per store. No resource's content is logged; a fault names file, part, place.
"""

from fhir_server.loading.run import load_demo, run_load
from fhir_server.loading.sources import CannotLoad

__all__ = ["CannotLoad", "load_demo", "run_load"]
