# The architecture: a request comes from the edge through the load balancer to an instance of the service, which counts
# it in the database. Everything stands in one network, and monitoring watches all of it.

locals {
  name             = "visitors-${var.environment}"
  parameter_prefix = "/visitors/${var.environment}"
  # The bootstrap creates it, and the pipeline's role creates no role without it.
  permissions_boundary_arn = "arn:aws:iam::${data.aws_caller_identity.current.account_id}:policy/${local.name}-boundary"
  tags                     = { Project = "visitors", Environment = var.environment, ManagedBy = "terraform" }
}

data "aws_caller_identity" "current" {}

module "network" {
  source = "./modules/network"

  name               = local.name
  vpc_cidr           = var.vpc_cidr
  availability_zones = var.availability_zones
  nat                = var.nat
  flow_logs          = var.flow_logs

  permissions_boundary_arn = local.permissions_boundary_arn
}

module "database" {
  source = "./modules/database"

  name                = local.name
  vpc_id              = module.network.vpc_id
  subnet_ids          = module.network.private_subnet_ids
  engine_version      = var.database.engine_version
  instance_class      = var.database.instance_class
  multi_az            = var.database.multi_az
  storage_gib         = var.database.storage_gib
  backup_days         = var.database.backup_days
  deletion_protection = var.deletion_protection
}

module "visitor_key" {
  source = "./modules/visitor-key"

  parameter_prefix = local.parameter_prefix
}

module "service" {
  source = "./modules/service"

  name             = local.name
  parameter_prefix = local.parameter_prefix
  ami_id           = var.ami_id
  deploy_number    = var.deploy_number

  instance_type              = var.instance_type
  volume_gib                 = var.volume_gib
  volume_initialization_rate = var.volume_initialization_rate
  capacity                   = var.capacity
  requests_per_instance      = var.requests_per_instance
  scheduled_capacity         = var.scheduled_capacity
  instance_environment       = var.instance_environment

  application_settings   = var.application_settings
  visitor_key_secret_arn = module.visitor_key.secret_arn
  retention_days         = var.retention_days
  log_days               = var.log_days

  vpc_id                      = module.network.vpc_id
  public_subnet_ids           = module.network.public_subnet_ids
  private_subnet_ids          = module.network.private_subnet_ids
  endpoints_security_group_id = module.network.endpoints_security_group_id
  has_nat                     = module.network.has_nat
  database                    = module.database
  permissions_boundary_arn    = local.permissions_boundary_arn

  certificate_arn     = module.edge.certificate_arn # issued before the load balancer asks for it
  requests_per_client = var.requests_per_client
  deletion_protection = var.deletion_protection
}

module "edge" {
  source = "./modules/edge"
  providers = {
    aws           = aws
    aws.us_east_1 = aws.us_east_1
  }

  name          = local.name
  domain_name   = var.domain_name
  zone_name     = var.zone_name
  create_zone   = var.create_zone
  load_balancer = module.service.load_balancer
  on_call       = var.on_call
}

module "monitoring" {
  source = "./modules/monitoring"

  name                     = local.name
  on_call                  = var.on_call
  group_name               = module.service.group_name
  fewest_instances         = var.capacity.min
  load_balancer_arn_suffix = module.service.load_balancer.arn_suffix
  target_group_arn_suffix  = module.service.target_group_arn_suffix
  database_identifier      = module.database.identifier
  database_connections     = var.database.connections
  certificate_arn          = module.edge.certificate_arn
  log_group_name           = module.service.log_group_name
}
