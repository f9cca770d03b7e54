# The plugins for Packer 1.14 and newer; `packer init packer/plugins` installs them. Packer 1.6 has them built in and
# refuses this block, so it has a folder of its own, which `packer build packer` does not read.
packer {
  required_version = ">= 1.14.0"
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.8.1"
    }
    ansible = {
      source  = "github.com/hashicorp/ansible"
      version = "~> 1.1.4"
    }
  }
}
