"""Programs that the verbs of make call."""
