"""When to ask a task for its state. Times are in seconds."""
