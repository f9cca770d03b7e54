output "url" {
  description = "URL of the page."
  value       = module.edge.url
}

output "name_servers" {
  description = "Name servers to be entered at the registrar, if this stack creates the zone."
  value       = module.edge.name_servers
}

output "group_name" {
  description = "The Auto Scaling group."
  value       = module.service.group_name
}

output "launch_template" {
  description = "Id and newest version of the launch template, which a roll brings to the instances."
  value       = module.service.launch_template
}

output "roll_alarm_names" {
  description = "Alarms that stop a roll."
  value       = module.monitoring.roll_alarm_names
}

output "ami_id" {
  description = "AMI of the last apply; `make plan` takes it unless another one is named."
  value       = var.ami_id
}

output "deploy_number" {
  description = "Number of the last apply."
  value       = var.deploy_number
}

output "kept_after_destroy" {
  description = "Resources that `terraform destroy` keeps; delete them by hand if they are not wanted."
  value = concat(
    ["snapshot ${local.name}-final-*, automated backups of ${module.database.identifier} (RDS)"],
    ["secret of the visitors' key, for 30 days (Secrets Manager)"],
    var.deletion_protection ? ["database and load balancer: first apply with deletion_protection = false"] : [],
  )
}
