"""The commands of ``ruxa-async``; `ruxa_async.__main__.main` is the entry point."""
