"""A small EC2 on one machine: the API is moto's, and its instances are real machines."""
