"""The commands; ``ruxa_async.__main__`` is the way in."""
