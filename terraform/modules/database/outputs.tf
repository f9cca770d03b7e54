output "address" {
  description = "Host name of the database."
  value       = aws_db_instance.this.address
}

output "port" {
  description = "Port of the database."
  value       = aws_db_instance.this.port
}

output "database" {
  description = "Name of the database on the server."
  value       = local.database
}

output "owner" {
  description = "Role that owns the schema and migrates it."
  value       = local.owner
}

output "owner_secret_arn" {
  description = "Secret of Secrets Manager with the owner's password, which RDS rotates."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "resource_id" {
  description = "Immutable id of the database instance; IAM authentication names it (rds-db:connect)."
  value       = aws_db_instance.this.resource_id
}

output "identifier" {
  description = "Name of the database instance in its metrics."
  value       = aws_db_instance.this.identifier
}

output "security_group_id" {
  description = "Security group of the database; callers need an ingress rule in it."
  value       = aws_security_group.this.id
}
