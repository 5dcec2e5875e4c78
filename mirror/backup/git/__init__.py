"""The git side of a backup: mirrors, wikis, snippets, LFS, pull request heads."""
