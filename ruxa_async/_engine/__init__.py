"""Decisions: which request to send, when, and what a reply means.

Everything here is pure: it is given times and replies, and returns decisions. It awaits nothing, reads no
clock and knows no HTTP library. `engine` joins the parts; each can be read and tested alone.
"""
