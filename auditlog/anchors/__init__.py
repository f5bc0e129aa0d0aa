"""Systems outside the operator's reach: one room each, it asks and checks."""
