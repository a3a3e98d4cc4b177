"""The decisions: what to send, when, and what an answer means.

Everything here is pure. It is told the time and what happened, and answers what to do and when to ask again; it
awaits nothing, reads no clock and knows no HTTP library. `engine` puts the parts together; each part can be read
and tested alone.
"""
