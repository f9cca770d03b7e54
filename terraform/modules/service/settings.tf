# Everything that an instance reads at boot. instance/parameters.py reads it; a test compares the names.

locals {
  # The AMI has this file with RDS's authorities, and all containers see it there.
  database_tls = "sslmode=verify-full&sslrootcert=/etc/visitors/database-ca.pem"
  database_url = "postgresql://%s@${var.database.address}:${var.database.port}/${var.database.database}?${local.database_tls}"

  settings = merge(var.application_settings, {
    DATABASE_URL                = format(local.database_url, local.database_user)
    MIGRATION_DATABASE_URL      = format(local.database_url, var.database.owner)
    DATABASE_IAM_AUTHENTICATION = "1"
    TRUSTED_PROXIES             = "1" # the load balancer appends the client's address
    PURGE_OLDER_THAN            = tostring(var.retention_days)
  })

  # Names of secrets, never their values, because instance/ reads parameters of type String.
  secrets = {
    VISITOR_KEY                 = var.visitor_key_secret_arn
    MIGRATION_DATABASE_PASSWORD = var.database.owner_secret_arn
  }

  database_user = "visitors_app" # the leader creates this role, which signs in with tokens
}

resource "aws_ssm_parameter" "settings" {
  # checkov:skip=CKV2_AWS_34: settings hold no secret, and instance/ reads parameters of type String
  for_each = local.settings

  name  = "${var.parameter_prefix}/settings/${each.key}"
  type  = "String"
  value = each.value
}

resource "aws_ssm_parameter" "secrets" {
  # checkov:skip=CKV2_AWS_34: it holds the name of a secret, and instance/ reads parameters of type String
  for_each = local.secrets

  name  = "${var.parameter_prefix}/secrets/${each.key}"
  type  = "String"
  value = each.value
}
