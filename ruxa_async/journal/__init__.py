"""What was intended, bought and finished: the contract of a journal is in `base`."""
