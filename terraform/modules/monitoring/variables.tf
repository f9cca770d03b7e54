variable "name" {
  type        = string
  description = "Name of this installation, as in visitors-staging; each alarm's name begins with it."
}

variable "on_call" {
  type        = list(string)
  description = "E-mail addresses of the people on call; each gets a message that asks for a confirmation first."
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
  description = "Instances that the group has at least; fewer healthy ones are an alarm."
}

variable "load_balancer_arn_suffix" {
  type        = string
  description = "The load balancer, as its metrics have it."
}

variable "target_group_arn_suffix" {
  type        = string
  description = "The target group, as its metrics have it."
}

variable "database_identifier" {
  type        = string
  description = "The database instance, as its metrics have it."
}

variable "database_connections" {
  type        = number
  description = "Connections that the database takes (max_connections); docs/scaling.md says how many a class has."
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
