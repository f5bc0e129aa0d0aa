"""A small language model, and the APIs that people know such models by."""
