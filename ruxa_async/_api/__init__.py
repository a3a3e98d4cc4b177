"""The service's wire format, pure."""
