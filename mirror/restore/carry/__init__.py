"""Carrying a plan out: nothing twice, nothing over what exists, and every result reported."""
