"""Tests of the templates and roles of the AMI."""
