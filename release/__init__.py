"""The tool that releases this application; it knows nothing of Flask."""
