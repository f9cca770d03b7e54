"""The machines behind the API's instances: containers with systemd, their networks, AMIs and metadata."""
