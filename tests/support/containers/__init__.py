"""A Docker engine, and base images made from Debian, for tests of the image on machines without a registry."""
