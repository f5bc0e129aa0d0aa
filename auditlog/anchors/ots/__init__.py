"""OpenTimestamps: asked by `anchor`, checked by `check`."""
