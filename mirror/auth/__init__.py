"""Sign-in: the sources of secrets, the kinds of credential, and how each signs a request."""
