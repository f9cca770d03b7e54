environment        = "production"
region             = "eu-central-1"
availability_zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
vpc_cidr           = "10.10.0.0/16"

domain_name = "visitors.example.com"
zone_name   = "visitors.example.com"
on_call     = ["on-call@example.com"]

instance_type = "t3.small"
capacity      = { min = 2, max = 6 }

database = {
  instance_class = "db.t4g.small"
  connections    = 180
  multi_az       = true
  storage_gib    = { initial = 20, maximum = 100 }
  backup_days    = 14
}

requests_per_client = 2000
flow_logs           = true
deletion_protection = true
