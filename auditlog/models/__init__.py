"""Which model decides: identities, and digests of the artifacts behind them."""
