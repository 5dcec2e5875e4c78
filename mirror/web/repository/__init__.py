"""The pages of a repository and of a workspace, at any of their snapshots."""

from mirror.web.repository.routes import ROUTES

__all__ = ["ROUTES"]
