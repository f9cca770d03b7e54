"""Health checks of Route 53: questions to endpoints, and the status that follows from the answers."""
