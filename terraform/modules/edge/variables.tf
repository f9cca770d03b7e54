variable "name" {
  type        = string
  description = "Name of this installation, as in visitors-staging."
}

variable "domain_name" {
  type        = string
  description = "Name that visitors type, as in visitors.example.com."
  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z]{2,}$", var.domain_name))
    error_message = "domain_name must be a name such as visitors.example.com, in small letters and without a final dot."
  }
}

variable "zone_name" {
  type        = string
  description = "Hosted zone that holds the domain name, as in example.com."
}

variable "create_zone" {
  type        = bool
  description = "Whether the hosted zone is made here; its name servers then have to be entered at the registrar (output name_servers)."
}

variable "load_balancer" {
  type = object({
    dns_name = string
    zone_id  = string
  })
  description = "The load balancer that the domain name leads to."
}

variable "ready_text" {
  type        = string
  description = "Text that /readyz answers while visitors can be served."
  default     = "\"ready\":true"
}

variable "on_call" {
  type        = list(string)
  description = "E-mail addresses of the people on call."
}
