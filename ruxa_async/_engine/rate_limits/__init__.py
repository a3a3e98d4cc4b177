"""When to send: limits that are configured, and limits that are discovered. Times are in seconds."""
