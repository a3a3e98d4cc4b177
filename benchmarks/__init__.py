"""What `ruxa_async` costs, measured beside plain aiohttp: ``python -m benchmarks NAME``; see README.md."""
