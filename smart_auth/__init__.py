"""Who may do what: a SMART App Launch 2.2 authorization server, and access as a predicate of every query."""
