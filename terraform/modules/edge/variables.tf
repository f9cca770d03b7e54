variable "name" {
  type        = string
  description = "Name of this installation, such as visitors-staging."
}

variable "domain_name" {
  type        = string
  description = "Name that visitors type, such as visitors.example.com."
  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z]{2,}$", var.domain_name))
    error_message = "domain_name must be a name such as visitors.example.com, in small letters and without a final dot."
  }
}

variable "zone_name" {
  type        = string
  description = "Hosted zone that holds the domain name, such as example.com."
}

variable "create_zone" {
  type        = bool
  description = "Whether this module creates the hosted zone; its name servers must then be entered at the registrar (output name_servers)."
}

variable "load_balancer" {
  type = object({
    dns_name = string
    zone_id  = string
  })
  description = "The load balancer to which the domain name leads."
}

variable "ready_text" {
  type        = string
  description = "Text in the answer of /readyz while visitors can be served."
  default     = "\"ready\":true"
}

variable "on_call" {
  type        = list(string)
  description = "E-mail addresses of the people on call."
}
