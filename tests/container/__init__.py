"""Tests of the container image and the compose file."""
