"""The log as an object: synchronous, with a single writer."""
