output "secret_arn" {
  description = "Secret of Secrets Manager with the key."
  value       = aws_secretsmanager_secret.this.arn

  # A reader of the secret needs its value too.
  depends_on = [aws_secretsmanager_secret_version.this]
}
