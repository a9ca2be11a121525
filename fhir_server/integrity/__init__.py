"""Does the store say what its resources say? Rows are made again from the stored bodies and compared with what is there.

`expected` makes and reads the rows of resources, `versions` judges bodies and history, `check` goes through a whole store.
Rules: nothing is changed here; a finding names a resource, a table and a parameter, never a value.
"""

from fhir_server.integrity.check import RULES, Finding, Tally, check_store

__all__ = ["RULES", "Finding", "Tally", "check_store"]
