"""Reports runs to people: notices, by Apprise in a process of its own, and pings of a monitoring service."""
