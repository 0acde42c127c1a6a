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
  type        = string
  description = "The text of targets.toml: what may be hit."
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

variable "node_pool" {
  type        = string
  description = "The nodes: label pool=NAME, taint dedicated=NAME:NoSchedule."
  default     = "load-hosts"
}

variable "seccomp_profile" {
  type        = string
  description = "Below the kubelet's seccomp folder, /var/lib/kubelet/seccomp on most nodes."
  default     = "profiles/scaled.json"
}

variable "storage_class" {
  type        = string
  description = "For runs' results; empty: the cluster's own."
  default     = ""
}

variable "log_level" {
  type        = string
  description = "SCALED_LOG: error, warn, info, debug."
  default     = "info"
}
