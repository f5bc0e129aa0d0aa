"""A model service behind `auditlog`, and the dishonest operator who is caught."""
