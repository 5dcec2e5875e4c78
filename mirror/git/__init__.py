"""Git: mirrors, documents in git repositories, Git LFS, and worker processes for CPU-bound work.

Only this room imports dulwich, and only here git's bytes are converted to text.
"""
