"""Tests of virtual machines."""
