"""Auto Scaling groups: the controller that launches and terminates, and its rules."""
