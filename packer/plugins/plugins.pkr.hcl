# What a Packer from 1.14 on needs besides itself: `packer init packer/plugins` installs it. Packer 1.6 has these built in
# and refuses this block, so it stands in a folder of its own, which `packer build packer` does not read.
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
