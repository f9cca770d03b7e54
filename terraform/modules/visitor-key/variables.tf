variable "parameter_prefix" {
  type        = string
  description = "Where this installation's parameters begin, as in /visitors/staging; the secret's name begins alike."
}
