output "vpc_id" {
  description = "Id of the VPC."
  value       = aws_vpc.this.id
}

output "public_subnet_ids" {
  description = "Ids of the public subnets, in the order of the zones."
  value       = [for zone in var.availability_zones : aws_subnet.public[zone].id]
}

output "private_subnet_ids" {
  description = "Ids of the private subnets, in the order of the zones."
  value       = [for zone in var.availability_zones : aws_subnet.private[zone].id]
}

output "endpoints_security_group_id" {
  description = "Security group of the VPC endpoints; callers need an ingress rule in it."
  value       = aws_security_group.endpoints.id
}

output "has_nat" {
  description = "Whether the private subnets reach the internet, and so the AWS APIs, by NAT."
  value       = var.nat != "none"
}
