"""Auto Scaling groups: the API's actions, the controller that launches and terminates, and the rules of both."""
