# Policies of the database, applied to a mocked provider.

mock_provider "aws" {
  mock_resource "aws_db_instance" {
    defaults = {
      master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1" }]
    }
  }
}

variables {
  name                = "visitors-test"
  vpc_id              = "vpc-0123456789abcdef0"
  subnet_ids          = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  engine_version      = "17"
  instance_class      = "db.t4g.small"
  multi_az            = true
  storage_gib         = { initial = 20, maximum = 100 }
  backup_days         = 7
  deletion_protection = true
}

run "the_database_is_private_and_encrypted" {
  assert {
    condition     = aws_db_instance.this.publicly_accessible == false
    error_message = "The internet could reach the database."
  }
  assert {
    condition     = aws_db_instance.this.storage_encrypted
    error_message = "Disks and snapshots would be readable."
  }
  assert {
    condition     = contains([for parameter in aws_db_parameter_group.this.parameter : "${parameter.name}=${parameter.value}"], "rds.force_ssl=1")
    error_message = "The server would accept connections without TLS."
  }
}

run "no_password_of_the_owner_passes_through_terraform" {
  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    error_message = "The owner's password would stand in Terraform's state."
  }
}

run "deleting_the_database_keeps_its_data" {
  assert {
    condition     = aws_db_instance.this.deletion_protection && aws_db_instance.this.skip_final_snapshot == false && aws_db_instance.this.delete_automated_backups == false
    error_message = "One destroy would remove every visit ever counted."
  }
  assert {
    condition     = can(regex("^visitors-test-final-[0-9]{14}$", aws_db_instance.this.final_snapshot_identifier))
    error_message = "RDS refuses the deletion without a valid name for the last snapshot."
  }
}

run "nothing_is_paid_for_an_engine_past_its_end_of_life" {
  assert {
    condition     = aws_db_instance.this.engine_lifecycle_support == "open-source-rds-extended-support-disabled"
    error_message = "RDS would charge extended support by itself."
  }
}

run "the_security_group_has_no_ingress_rule_of_its_own" {
  assert {
    condition     = length(aws_security_group.this.ingress) == 0
    error_message = "The database would accept sources that the service module does not name."
  }
}

run "a_minor_version_is_refused" {
  command = plan
  variables {
    engine_version = "17.4"
  }
  expect_failures = [var.engine_version]
}

run "backups_of_fewer_than_seven_days_are_refused" {
  command = plan
  variables {
    backup_days = 1
  }
  expect_failures = [var.backup_days]
}

run "storage_that_cannot_grow_is_refused" {
  command = plan
  variables {
    storage_gib = { initial = 50, maximum = 50 }
  }
  expect_failures = [var.storage_gib]
}

run "one_subnet_is_refused" {
  command = plan
  variables {
    subnet_ids = ["subnet-0123456789abcdef0"]
  }
  expect_failures = [var.subnet_ids]
}
