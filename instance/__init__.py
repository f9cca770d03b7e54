"""What runs on a machine when it starts: one step a module; it knows neither Flask nor the release tool."""
