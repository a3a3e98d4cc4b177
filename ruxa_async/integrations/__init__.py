"""Run the client behind an engine that places work on many machines. Each module needs its own extra."""
