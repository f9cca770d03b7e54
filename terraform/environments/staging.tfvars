environment        = "staging"
region             = "eu-central-1"
availability_zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
vpc_cidr           = "10.20.0.0/16"

domain_name = "staging.visitors.example.com"
zone_name   = "visitors.example.com"
on_call     = ["on-call@example.com"]

instance_type = "t3.small"
capacity      = { min = 2, max = 4 }

database = {
  instance_class = "db.t4g.micro"
  connections    = 80
  multi_az       = false
  storage_gib    = { initial = 20, maximum = 40 }
}

deletion_protection = false
