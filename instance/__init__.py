"""The boot of an instance: one module for each step; it imports neither Flask nor the release tool."""
