"""The metadata service of an instance: where its facts come from, their tree, and the service that reads it out."""
