"""Systems outside the operator's reach: one file each, it asks and checks."""
