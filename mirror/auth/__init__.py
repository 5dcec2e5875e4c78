"""Sign-in: where secrets come from, the seven kinds of credential, and how each signs a request."""
