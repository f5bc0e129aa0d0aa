"""The trusted base: bytes in, values out. No I/O, clock, randomness or threads."""
