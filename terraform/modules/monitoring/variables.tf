variable "name" {
  type        = string
  description = "Name of this installation, such as visitors-staging; each alarm's name begins with it."
}

variable "on_call" {
  type        = list(string)
  description = "E-mail addresses of the people on call; each must confirm a first message."
  validation {
    condition     = length(var.on_call) > 0 && alltrue([for address in var.on_call : can(regex("^[^@ ]+@[^@ ]+[.][^@ ]+$", address))])
    error_message = "on_call must hold at least one e-mail address, or alarms reach no person."
  }
}

variable "group_name" {
  type        = string
  description = "The Auto Scaling group."
}

variable "fewest_instances" {
  type        = number
  description = "Minimum of the group; an alarm rings when fewer instances are healthy."
}

variable "load_balancer_arn_suffix" {
  type        = string
  description = "Name of the load balancer in its metrics."
}

variable "target_group_arn_suffix" {
  type        = string
  description = "Name of the target group in its metrics."
}

variable "database_identifier" {
  type        = string
  description = "Name of the database instance in its metrics."
}

variable "database_connections" {
  type        = number
  description = "Connections of the database (max_connections); docs/scaling.md has the number for a class."
  validation {
    condition     = var.database_connections > 10
    error_message = "database_connections must be more than 10."
  }
}

variable "certificate_arn" {
  type        = string
  description = "The certificate of the page."
}

variable "log_group_name" {
  type        = string
  description = "Log group of the instances' journals."
}
