# A workspace that is the load host: a pod on nodes of its own, in which `scaled` runs and, where the
# workspace was started with "begin", a scenario made from the parameters.

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

data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}

locals {
  name   = "load-host-${data.coder_workspace.me.id}"
  labels = { "app.kubernetes.io/name" = "scaled", "app.kubernetes.io/instance" = local.name }
  url    = coalesce(var.coder_url, data.coder_workspace.me.access_url)

  count     = tonumber(data.coder_parameter.count.value)
  run       = data.coder_parameter.run.value
  terminals = local.run == "terminals" ? local.count : local.run == "apps" ? 0 : ceil(local.count * 0.8)

  scenario = local.run == "scenario" ? data.coder_parameter.scenario.value : templatefile("${path.module}/scenario.toml.tftpl", {
    name           = data.coder_workspace.me.name
    count          = local.count
    template       = data.coder_parameter.template.value
    parameters     = jsondecode(data.coder_parameter.template_parameters.value)
    concurrency    = tonumber(data.coder_parameter.concurrency.value)
    baseline       = data.coder_parameter.baseline.value
    terminals      = local.terminals
    app            = data.coder_parameter.app.value
    bytes_per_tick = data.coder_parameter.bytes_per_tick.value
    tick_interval  = data.coder_parameter.tick_interval.value
    duration       = data.coder_parameter.duration.value
    response_p99   = data.coder_parameter.response_p99.value
    cleanup        = data.coder_parameter.cleanup.value
  })
}

resource "coder_agent" "main" {
  os   = "linux"
  arch = var.arch
  dir  = "/var/lib/scaled"
  env = {
    CODER_URL                = local.url
    CODER_SESSION_TOKEN_FILE = "/etc/scaled-token/token"
    SCALED_SOCKET            = "/run/scaled/control.sock"
    SCALED_BEGIN             = data.coder_parameter.begin.value
    SCALED_LOG               = var.log_level
  }

  metadata {
    key          = "run"
    display_name = "Run"
    script       = "scalectl status 2>&1 | head -n 1"
    interval     = 10
    timeout      = 5
  }
}

# Its output is the workspace's log, its exit code the run's: the page shows a run that failed.
resource "coder_script" "scenario" {
  agent_id           = coder_agent.main.id
  display_name       = "scaled"
  icon               = "/icon/terminal.svg"
  run_on_start       = true
  start_blocks_login = false
  timeout            = 0
  script             = file("${path.module}/startup.sh")
}

# Runs' results and ledgers: what a killed run left on the deployment is known here alone.
resource "kubernetes_persistent_volume_claim_v1" "state" {
  metadata {
    name      = "${local.name}-state"
    namespace = var.namespace
    labels    = local.labels
  }
  wait_until_bound = false
  spec {
    access_modes       = ["ReadWriteOnce"]
    storage_class_name = var.storage_class != "" ? var.storage_class : null
    resources {
      requests = { storage = "5Gi" }
    }
  }
}

resource "kubernetes_config_map_v1" "config" {
  metadata {
    name      = "${local.name}-config"
    namespace = var.namespace
    labels    = local.labels
  }
  data = {
    "scaled.toml"   = file("${path.module}/scaled.toml")
    "targets.toml"  = var.targets
    "scenario.toml" = local.scenario
  }
}

# The agent's own token, so that it does not stand in the pod's spec. The deployment's is in a secret
# that you made by hand (var.token_secret); Terraform never sees it.
resource "kubernetes_secret_v1" "agent" {
  count = data.coder_workspace.me.start_count

  metadata {
    name      = "${local.name}-agent"
    namespace = var.namespace
    labels    = local.labels
  }
  data = { token = coder_agent.main.token }
}

resource "kubernetes_pod_v1" "main" {
  count = data.coder_workspace.me.start_count

  metadata {
    name      = local.name
    namespace = var.namespace
    labels    = merge(local.labels, { "com.coder.user.username" = data.coder_workspace_owner.me.name })
    annotations = {
      # A node that is taken away in the middle of a run ends it.
      "cluster-autoscaler.kubernetes.io/safe-to-evict" = "false"
      "prometheus.io/scrape"                           = "true"
      "prometheus.io/port"                             = "21112"
    }
  }

  spec {
    # A container that is started again would begin the run again.
    restart_policy                   = "Never"
    automount_service_account_token  = false
    enable_service_links             = false
    termination_grace_period_seconds = 60

    node_selector = { pool = var.node_pool }
    toleration {
      key      = "dedicated"
      operator = "Equal"
      value    = var.node_pool
      effect   = "NoSchedule"
    }
    affinity {
      pod_anti_affinity {
        required_during_scheduling_ignored_during_execution {
          topology_key = "kubernetes.io/hostname"
          label_selector {
            match_labels = { "app.kubernetes.io/name" = "scaled" }
          }
        }
      }
    }

    security_context {
      run_as_non_root = true
      run_as_user     = 1000
      run_as_group    = 1000
      fs_group        = 1000
      seccomp_profile {
        type              = "Localhost"
        localhost_profile = var.seccomp_profile
      }
      # Of a pod's own network, and on the kubelet's safe list.
      sysctl {
        name  = "net.ipv4.ip_local_port_range"
        value = "1024 65535"
      }
    }

    container {
      name    = "scaled"
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
      port {
        name           = "metrics"
        container_port = 21112
      }

      # Requests are limits and CPUs are whole: a Guaranteed pod, to which the kubelet's static CPU
      # manager gives cores of its own.
      resources {
        requests = { cpu = tostring(var.cpus), memory = var.memory }
        limits   = { cpu = tostring(var.cpus), memory = var.memory }
      }
      security_context {
        allow_privilege_escalation = false
        capabilities {
          drop = ["ALL"]
        }
      }

      # File by file: a ConfigMap's own folder can be written to by everybody, and no list is believed that lies in one.
      volume_mount {
        name       = "config"
        mount_path = "/etc/scaled/scaled.toml"
        sub_path   = "scaled.toml"
        read_only  = true
      }
      volume_mount {
        name       = "config"
        mount_path = "/etc/scaled/targets.toml"
        sub_path   = "targets.toml"
        read_only  = true
      }
      volume_mount {
        name       = "config"
        mount_path = "/etc/scaled/scenario.toml"
        sub_path   = "scenario.toml"
        read_only  = true
      }
      volume_mount {
        name       = "token"
        mount_path = "/etc/scaled-token"
        read_only  = true
      }
      volume_mount {
        name       = "run"
        mount_path = "/run/scaled"
      }
      volume_mount {
        name       = "state"
        mount_path = "/var/lib/scaled"
      }
    }

    volume {
      name = "config"
      config_map {
        name = kubernetes_config_map_v1.config.metadata[0].name
      }
    }
    volume {
      name = "token"
      secret {
        secret_name  = var.token_secret
        default_mode = "0440"
      }
    }
    volume {
      name = "run"
      empty_dir {
        medium     = "Memory"
        size_limit = "1Mi"
      }
    }
    volume {
      name = "state"
      persistent_volume_claim {
        claim_name = kubernetes_persistent_volume_claim_v1.state.metadata[0].name
      }
    }
  }
}
