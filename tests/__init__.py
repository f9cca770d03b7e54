"""Tests go through the front door: HTTP, the command line, real databases and real processes."""
