"""The API: moto with extensions, which add or correct answers so that AWS's tools find those of AWS.

A module for each kind of resource holds classes of methods for moto's own classes; extensions.py lists all of them,
and service.py installs them.
"""
