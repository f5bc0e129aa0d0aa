"""A model service behind `auditlog`, and the dishonest operator who is caught.

`demo_service.app` is what a team's service looks like; everything else plays the
people around it: callers, a witness, an auditor, and an operator who cheats.
``make demo`` runs it all.
"""
