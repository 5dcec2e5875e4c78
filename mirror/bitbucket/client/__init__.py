"""The client: requests within the budget, signed, checked and retried."""
