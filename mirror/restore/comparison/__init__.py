"""A snapshot against a snapshot of its restored copy: document by document, field by field, ref by ref.

It knows what anyone can set from `bitbucket.settable`, not from the catalogue or the plan, and so finds what
these forget. `own` compares a snapshot with itself, which finds what collecting lost.
"""
