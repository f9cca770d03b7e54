"""What tests of the image need and no registry gives them here: a Docker engine, and base images made from Debian."""
