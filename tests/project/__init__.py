"""Tests of the repository itself: documents, pipeline, tools."""
