"""Bitbucket Cloud's REST API 2.0: the only room that knows its addresses and field names."""
