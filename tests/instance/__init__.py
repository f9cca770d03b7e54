"""Tests of the boot of an instance."""
