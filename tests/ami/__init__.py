"""Tests of the AMI and what boots from it."""
