output "state_bucket" {
  description = "Bucket of the stack's state: `terraform init -backend-config=bucket=...`."
  value       = aws_s3_bucket.this["state"].bucket
}

output "artefact_bucket" {
  description = "Bucket of the files beside the AMIs."
  value       = aws_s3_bucket.this["artefacts"].bucket
}

output "gitlab_provider_arn" {
  description = "OIDC provider that the roles of the pipeline trust."
  value       = aws_iam_openid_connect_provider.gitlab.arn
}

output "role_arns" {
  description = "ARNs of the pipeline's roles by their names, which are also the audiences of their tokens."
  value       = { for name, role in aws_iam_role.pipeline : name => role.arn }
}
