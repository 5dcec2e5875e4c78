"""Mirrors: fetching, cloning, checking and maintaining them."""
