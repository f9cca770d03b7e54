"""A local AWS: the API is moto's with extensions, and its instances are real machines."""
