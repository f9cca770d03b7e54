"""The API: moto, and what this rehearsal adds to it or answers otherwise, so that AWS's tools find AWS's answers.

A module for each kind of resource holds classes of methods for moto's own classes; extensions.py lists all of them,
and service.py installs them.
"""
