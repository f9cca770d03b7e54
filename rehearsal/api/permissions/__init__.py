"""The permissions of callers: IAM's decision about each call."""
