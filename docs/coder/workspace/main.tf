# The workspace that is tested: a small pod with the three listeners that `--app wsec|wsra|wsdi` need.
# The image has websocat and no `screen`: with one on the agent's PATH terminals are redrawn, and their
# echo cannot be followed (`scalectl workspace-traffic --backend buffered` then).

terraform {
  required_version = ">= 1.3"
  required_providers {
    coder = {
      source  = "coder/coder"
      version = ">= 2.4"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = ">= 2.20"
    }
  }
}

provider "coder" {}

provider "kubernetes" {
  config_path = var.use_kubeconfig ? "~/.kube/config" : null
}

variable "use_kubeconfig" {
  type        = bool
  description = "Use ~/.kube/config of the provisioner's host; otherwise its service account."
  default     = false
}

variable "namespace" {
  type        = string
  description = "Where workspaces run."
  default     = "workspaces"
}

variable "image" {
  type        = string
  description = "An image with websocat and curl: the Containerfile beside this file builds it."
}

variable "arch" {
  type        = string
  description = "The nodes' architecture, amd64 or arm64."
  default     = "amd64"
}

variable "subdomain" {
  type        = bool
  description = "Apps on host names of their own; false: on paths below the deployment's URL."
  default     = false
}

variable "share" {
  type        = string
  description = "Who may use the apps: owner, authenticated, public. Traffic has tokens of the owners where it needs them."
  default     = "owner"
}

variable "node_pool" {
  type        = string
  description = "The nodes: label pool=NAME; a taint dedicated=NAME:NoSchedule is tolerated."
  default     = "workspaces"
}

data "coder_parameter" "home_disk_size" {
  name         = "home_disk_size"
  display_name = "Home disk (GiB)"
  description  = "0: none, the home folder goes with the pod. A thousand volumes are a test of the storage, too."
  type         = "number"
  default      = 0
  mutable      = false
  validation {
    min = 0
    max = 100
  }
}

data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}

locals {
  name = "workspace-${data.coder_workspace.me.id}"
  disk = tonumber(data.coder_parameter.home_disk_size.value)
  labels = {
    "app.kubernetes.io/name"     = "workspace"
    "app.kubernetes.io/instance" = local.name
    "com.coder.user.username"    = data.coder_workspace_owner.me.name
  }
  apps = {
    wsec = { port = 1234, name = "Echo" }
    wsra = { port = 1235, name = "Random" }
    wsdi = { port = 1236, name = "Discard" }
  }
}

resource "coder_agent" "main" {
  os   = "linux"
  arch = var.arch
}

resource "coder_script" "listeners" {
  agent_id           = coder_agent.main.id
  display_name       = "Listeners"
  icon               = "/icon/widgets.svg"
  run_on_start       = true
  start_blocks_login = true # a workspace is ready once they listen
  script             = file("${path.module}/listeners.sh")
}

resource "coder_app" "listener" {
  for_each     = local.apps
  agent_id     = coder_agent.main.id
  slug         = each.key
  display_name = each.value.name
  url          = "http://127.0.0.1:${each.value.port}"
  subdomain    = var.subdomain
  share        = var.share
}

resource "kubernetes_secret_v1" "agent" {
  count = data.coder_workspace.me.start_count

  metadata {
    name      = "${local.name}-agent"
    namespace = var.namespace
    labels    = local.labels
  }
  data = { token = coder_agent.main.token }
}

resource "kubernetes_persistent_volume_claim_v1" "home" {
  count = local.disk > 0 ? 1 : 0

  metadata {
    name      = "${local.name}-home"
    namespace = var.namespace
    labels    = local.labels
  }
  wait_until_bound = false
  spec {
    access_modes = ["ReadWriteOnce"]
    resources {
      requests = { storage = "${local.disk}Gi" }
    }
  }
}

resource "kubernetes_pod_v1" "main" {
  count = data.coder_workspace.me.start_count

  metadata {
    name      = local.name
    namespace = var.namespace
    labels    = local.labels
    # Pods that move in the middle of a run are lost streams, and nobody's fault.
    annotations = { "cluster-autoscaler.kubernetes.io/safe-to-evict" = "false" }
  }

  spec {
    automount_service_account_token = false
    enable_service_links            = false # a thousand services would be a thousand variables

    node_selector = { pool = var.node_pool }
    toleration {
      key      = "dedicated"
      operator = "Equal"
      value    = var.node_pool
      effect   = "NoSchedule"
    }

    security_context {
      run_as_non_root = true
      run_as_user     = 1000
      run_as_group    = 1000
      fs_group        = 1000
      seccomp_profile {
        type = "RuntimeDefault"
      }
    }

    container {
      name    = "workspace"
      image   = var.image
      command = ["sh", "-c", coder_agent.main.init_script]

      env {
        name = "CODER_AGENT_TOKEN"
        value_from {
          secret_key_ref {
            name = kubernetes_secret_v1.agent[0].metadata[0].name
            key  = "token"
          }
        }
      }

      # Small requests pack many on a node; the limits leave room for the agent at 40 KB/s.
      resources {
        requests = { cpu = "50m", memory = "128Mi" }
        limits   = { cpu = "1", memory = "512Mi" }
      }
      security_context {
        allow_privilege_escalation = false
        capabilities {
          drop = ["ALL"]
        }
      }

      volume_mount {
        name       = "home"
        mount_path = "/home/coder"
      }
    }

    volume {
      name = "home"
      dynamic "empty_dir" {
        for_each = local.disk > 0 ? [] : [1]
        content {
          size_limit = "1Gi"
        }
      }
      dynamic "persistent_volume_claim" {
        for_each = kubernetes_persistent_volume_claim_v1.home
        content {
          claim_name = persistent_volume_claim.value.metadata[0].name
        }
      }
    }
  }
}
