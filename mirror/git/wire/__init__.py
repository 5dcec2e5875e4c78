"""Git's protocol over HTTP: listing refs, fetching packs, pushing."""
