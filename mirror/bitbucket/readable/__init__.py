"""Bitbucket's documents as values that a page can show: who said what, when, and where.

Never raises over a document: a field that is not there or of another type is as if it were empty.
"""
