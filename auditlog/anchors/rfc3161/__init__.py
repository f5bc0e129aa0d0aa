"""RFC 3161 time-stamp authorities: asked by `anchor`, checked by `check`."""
