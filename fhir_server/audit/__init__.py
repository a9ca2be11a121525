"""The audit trail: a journal for each worker, folded into one chained ledger, shown as AuditEvent resources."""
