variable "name" {
  type        = string
  description = "Name of this installation, such as visitors-staging."
}

variable "vpc_id" {
  type        = string
  description = "VPC of the database."
}

variable "subnet_ids" {
  type        = list(string)
  description = "Private subnets of the database, at least two zones."
  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids must name subnets of at least two zones, because RDS requires two."
  }
}

variable "engine_version" {
  type        = string
  description = "Major version of PostgreSQL; RDS installs the minor versions in the maintenance window."
  validation {
    condition     = can(regex("^1[5-9]$", var.engine_version))
    error_message = "engine_version must be a major version from 15 to 19; the application is tested on 15 and newer."
  }
}

variable "instance_class" {
  type        = string
  description = "Class of the database instance; its memory limits its connections (docs/scaling.md)."
  validation {
    condition     = startswith(var.instance_class, "db.")
    error_message = "instance_class must look like db.t4g.small."
  }
}

variable "multi_az" {
  type        = bool
  description = "Whether a standby in another zone takes over when the database or its zone fails."
}

variable "storage_gib" {
  type = object({
    initial = number
    maximum = number
  })
  description = "GiB of storage at the start, and the maximum to which RDS enlarges it."
  validation {
    condition     = var.storage_gib.initial >= 20 && var.storage_gib.maximum > var.storage_gib.initial
    error_message = "storage_gib.initial must be 20 or more (gp3's minimum) and storage_gib.maximum larger, or the storage never grows."
  }
}

variable "backup_days" {
  type        = number
  description = "Days for which the database can be restored to any second."
  validation {
    condition     = var.backup_days >= 7 && var.backup_days <= 35
    error_message = "backup_days must be from 7 to 35, RDS's maximum."
  }
}

variable "deletion_protection" {
  type        = bool
  description = "Whether RDS refuses to delete the database."
}
