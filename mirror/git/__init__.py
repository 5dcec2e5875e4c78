"""Everything that knows git: mirrors, documents in git, and the workers that do the heavy part.

The only room that imports dulwich, and the only place where git's bytes meet Python's text.
"""
