"""One module for each family of documents: how it is kept up to date."""
