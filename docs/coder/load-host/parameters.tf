# What whoever starts a run decides.

data "coder_parameter" "begin" {
  name         = "begin"
  display_name = "Begin the run"
  description  = "Off: only the daemon is started. For this start alone, so that no other start makes load."
  type         = "bool"
  default      = false
  mutable      = true
  ephemeral    = true
  order        = 1
}

data "coder_parameter" "run" {
  name         = "run"
  display_name = "What to run"
  type         = "string"
  default      = "terminals"
  mutable      = true
  order        = 2
  option {
    name  = "Web terminals"
    value = "terminals"
  }
  option {
    name  = "Apps"
    value = "apps"
  }
  option {
    name  = "Both: four in five workspaces a terminal, the others an app"
    value = "both"
  }
  option {
    name  = "The scenario below"
    value = "scenario"
  }
}

data "coder_parameter" "count" {
  name         = "count"
  display_name = "Workspaces"
  description  = "Made for the run, each with a user of its own."
  type         = "number"
  default      = 20
  mutable      = true
  order        = 3
  validation {
    min = 1
    max = 20000
  }
}

data "coder_parameter" "template" {
  name         = "template"
  display_name = "Template"
  description  = "Of the workspaces; for apps it has the slug below."
  type         = "string"
  default      = "kubernetes"
  mutable      = true
  order        = 4
}

data "coder_parameter" "template_parameters" {
  name         = "template_parameters"
  display_name = "The template's parameters"
  description  = "A JSON object of strings, such as {\"home_disk_size\": \"10\"}."
  type         = "string"
  default      = "{}"
  mutable      = true
  order        = 5
}

data "coder_parameter" "concurrency" {
  name         = "concurrency"
  display_name = "Made and deleted at once"
  description  = "0 is all."
  type         = "number"
  default      = 10
  mutable      = true
  order        = 6
  validation {
    min = 0
    max = 20000
  }
}

data "coder_parameter" "baseline" {
  name         = "baseline"
  display_name = "Rest before traffic"
  type         = "string"
  default      = "1m"
  mutable      = true
  order        = 7
  validation {
    regex = "^[0-9]+(ms|s|m|h)$"
    error = "A number with ms, s, m or h."
  }
}

data "coder_parameter" "bytes_per_tick" {
  name         = "bytes_per_tick"
  display_name = "Bytes per tick"
  description  = "Coder's published tables: 4096B each 100ms."
  type         = "string"
  default      = "1024B"
  mutable      = true
  order        = 8
  validation {
    regex = "^[0-9]+(B|KB|KiB)$"
    error = "A number with B, KB or KiB."
  }
}

data "coder_parameter" "tick_interval" {
  name         = "tick_interval"
  display_name = "Tick interval"
  type         = "string"
  default      = "100ms"
  mutable      = true
  order        = 9
  validation {
    regex = "^[0-9]+(ms|s)$"
    error = "A number with ms or s."
  }
}

data "coder_parameter" "duration" {
  name         = "duration"
  display_name = "Duration of traffic"
  type         = "string"
  default      = "10m"
  mutable      = true
  order        = 10
  validation {
    regex = "^[0-9]+(s|m|h)$"
    error = "A number with s, m or h."
  }
}

data "coder_parameter" "app" {
  name         = "app"
  display_name = "App"
  type         = "string"
  default      = "wsec"
  mutable      = true
  order        = 11
  option {
    name  = "wsec: echoes"
    value = "wsec"
  }
  option {
    name  = "wsra: sends random bytes without end"
    value = "wsra"
  }
  option {
    name  = "wsdi: discards"
    value = "wsdi"
  }
}

data "coder_parameter" "response_p99" {
  name         = "response_p99"
  display_name = "Longest response time, 99th percentile"
  description  = "The run fails above it; empty: no such limit. wsra and wsdi do not echo, so leave it empty there."
  type         = "string"
  default      = "250ms"
  mutable      = true
  order        = 12
  validation {
    regex = "^([0-9]+(ms|s))?$"
    error = "A number with ms or s, or nothing."
  }
}

data "coder_parameter" "cleanup" {
  name         = "cleanup"
  display_name = "Delete what was made"
  type         = "string"
  default      = "always"
  mutable      = true
  order        = 13
  option {
    name  = "Always"
    value = "always"
  }
  option {
    name  = "Where the run passed"
    value = "success"
  }
  option {
    name  = "Never: `scalectl cleanup` does it later"
    value = "never"
  }
}

data "coder_parameter" "scenario" {
  name         = "scenario"
  display_name = "Scenario"
  description  = "A scenario file's text (TOML), where that is what to run; nothing else above counts then."
  type         = "string"
  form_type    = "textarea"
  default      = ""
  mutable      = true
  order        = 14
}
