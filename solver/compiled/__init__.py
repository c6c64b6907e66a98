"""Everything that is compiled by numba. No other package of ours imports it."""
