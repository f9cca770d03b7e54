"""The application that counts unique visitors; it is independent of the cloud that runs it."""
