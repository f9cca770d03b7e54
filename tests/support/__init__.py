"""Servers, stand-ins and fixtures that tests share."""
