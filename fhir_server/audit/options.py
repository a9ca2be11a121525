"""Settings of the audit trail (`FHIR_AUDIT__KEEP_DAYS=365`)."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """`enabled`: whether requests are recorded (None: with access control, since without it nobody is known); `keep_days`: how long records are kept, 0 for ever; `journal_mib`: size of one journal."""

    enabled: bool | None = None
    keep_days: Annotated[int, Field(ge=0)] = 2192
    journal_mib: Annotated[float, Field(gt=0)] = 16.0
