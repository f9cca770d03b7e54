# One PostgreSQL on RDS. Its owner migrates the schema; the leader of a boot creates the application's role.

locals {
  database = "visitors"
  owner    = "visitors_owner"
  port     = 5432
}

resource "aws_db_subnet_group" "this" {
  name        = var.name
  description = "Private subnets of ${var.name}"
  subnet_ids  = var.subnet_ids
}

# Without rules of its own: the service module adds the rule for its instances.
resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "PostgreSQL of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-database" }
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-"
  description = "PostgreSQL ${var.engine_version} of ${var.name}"
  family      = "postgres${var.engine_version}"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  # A statement of the application ends after 2 s; one that takes a quarter of that is logged.
  parameter {
    name  = "log_min_duration_statement"
    value = "500"
  }

  parameter {
    name  = "log_lock_waits"
    value = "1"
  }

  lifecycle {
    create_before_destroy = true # a new major version needs a new group while the old one is in use
  }
}

resource "aws_db_instance" "this" {
  # checkov:skip=CKV_AWS_118: Performance Insights shows the load; enhanced monitoring costs a log group and a role
  # checkov:skip=CKV_AWS_354: the key of AWS suffices, because a reader needs permission of RDS anyway
  identifier     = var.name
  engine         = "postgres"
  engine_version = var.engine_version
  instance_class = var.instance_class
  multi_az       = var.multi_az

  db_name                             = local.database
  port                                = local.port
  username                            = local.owner
  manage_master_user_password         = true # in Secrets Manager, rotated by RDS, never in Terraform's state
  iam_database_authentication_enabled = true

  storage_type          = "gp3"
  allocated_storage     = var.storage_gib.initial
  max_allocated_storage = var.storage_gib.maximum
  storage_encrypted     = true

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.this.id]
  publicly_accessible    = false
  parameter_group_name   = aws_db_parameter_group.this.name

  # Backups first, then maintenance: a failed update has a backup of the same night. Both in UTC.
  backup_retention_period  = var.backup_days
  backup_window            = "01:30-02:30"
  maintenance_window       = "tue:03:00-tue:04:00"
  copy_tags_to_snapshot    = true
  delete_automated_backups = false

  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = false
  final_snapshot_identifier = "${var.name}-final-${formatdate("YYYYMMDDhhmmss", plantimestamp())}"

  performance_insights_enabled          = true
  performance_insights_retention_period = 7 # days, without charge
  enabled_cloudwatch_logs_exports       = ["postgresql", "upgrade"]
  auto_minor_version_upgrade            = true
  # RDS's default charges for support after the end of PostgreSQL's own.
  engine_lifecycle_support = "open-source-rds-extended-support-disabled"

  lifecycle {
    # The snapshot's name contains the moment of the plan, so that a second installation of this name can be destroyed.
    ignore_changes = [final_snapshot_identifier]
  }
}
