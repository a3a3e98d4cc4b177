"""Tools for agents over the Model Context Protocol: ``ruxa-async mcp``. Install the extra ``mcp``.

- `_handles`: the name of a purchase: a hash of the call
- `_purchase`: one purchase and its state; `_charges`: whether it was charged
- `_purchases`: all purchases of a folder; they go on when a call ends
- `_answers`, `_thumbnail`: purchases as results of tools
- `_server`: the tools and the resources; `_stdio`, `_http`: the transports
"""
