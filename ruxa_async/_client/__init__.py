"""The client: who waits, closes and is cancelled."""
