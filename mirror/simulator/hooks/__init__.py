"""What Bitbucket sends to webhooks."""
