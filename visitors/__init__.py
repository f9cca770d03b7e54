"""The application that counts unique visitors; it knows nothing of the cloud that runs it."""
