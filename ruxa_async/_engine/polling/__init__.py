"""When to poll a task. Times are in seconds."""
