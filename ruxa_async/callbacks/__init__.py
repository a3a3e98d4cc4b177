"""Callbacks: the service posts when a task ends, and the task wakes."""
