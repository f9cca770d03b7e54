"""Tests of the AMI and of machines that boot from it."""
