# What whoever installs the template decides; what whoever starts a run decides is in parameters.tf.

variable "use_kubeconfig" {
  type        = bool
  description = "Use ~/.kube/config of the provisioner's host; otherwise its service account."
  default     = false
}

variable "namespace" {
  type        = string
  description = "Where load hosts run."
  default     = "load-hosts"
}

variable "image" {
  type        = string
  description = "An image with scaled, scalectl and curl: the Containerfile beside this file builds it."
}

variable "arch" {
  type        = string
  description = "The nodes' architecture, amd64 or arm64."
  default     = "amd64"
}

variable "token_secret" {
  type        = string
  description = "Name of a secret in the namespace whose key `token` is an owner's session token. Its value is never a variable."
  default     = "coder-token"
}

variable "coder_url" {
  type        = string
  description = "The deployment to test; empty: the one that this template is on."
  default     = ""
}

variable "targets" {
  type = list(object({
    host        = optional(string)
    addresses   = list(string)
    ports       = list(number)
    streams_max = optional(number)
  }))
  description = "What may be hit: the deployment's host name with its addresses, and the apps' (*.apps.example.com) where they have their own."
}

variable "deployment_id" {
  type        = string
  description = "The only Coder deployment that may be used, as its /api/v2/buildinfo says it; empty: any that the targets allow."
  default     = ""
}

variable "cpus" {
  type        = number
  description = "Whole CPUs: one for control, the others are workers."
  default     = 4
  validation {
    condition     = var.cpus >= 2 && floor(var.cpus) == var.cpus
    error_message = "Whole CPUs, 2 or more: parts of one are never pinned."
  }
}

variable "memory" {
  type        = string
  description = "Memory, all of it reserved."
  default     = "8Gi"
}

variable "node_selector" {
  type        = map(string)
  description = "Labels of the load hosts' node pool."
  default     = { pool = "load-hosts" }
}

variable "taints" {
  type        = map(string)
  description = "Taints of that pool, with effect NoSchedule."
  default     = { dedicated = "load-hosts" }
}

variable "seccomp_profile" {
  type        = string
  description = "Below the kubelet's seccomp folder, /var/lib/kubelet/seccomp on most nodes."
  default     = "profiles/scaled.json"
}

variable "storage_class" {
  type        = string
  description = "For runs' results; null: the cluster's own."
  default     = null
}

variable "log_level" {
  type        = string
  description = "SCALED_LOG: error, warn, info, debug."
  default     = "info"
}
