"""A contract on an EVM chain: asked by `anchor`, checked by `check`."""
