"""Alarms of CloudWatch: their definitions, their evaluation, and the thread that evaluates them."""
