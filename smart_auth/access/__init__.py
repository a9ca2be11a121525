"""Who may see and write what: from a principal to the predicate of every query, and the rules of every write.

The way: scopes (what the app was granted) x roles (what the person may do) x reach (whose resources) -> an `Alternative` for each way in which a
letter reaches a type -> one node of the query tree for each type and letter -> a `Narrowing`, which every read verb of a store takes.

Rules. Nothing is allowed that no rule allows. A fault in a rule (a parameter of a scope that is no longer known) allows nothing. The decision is
made before storage is asked, never on its results; what comes out is only asserted once more.
"""
