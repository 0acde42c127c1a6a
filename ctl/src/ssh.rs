//! The flags of `start` that are about SSH.

use std::path::PathBuf;

use clap::Args;
use scale_api::spec::{File, GroupSpec};

/// How SSH streams are opened.
#[derive(Debug, Args)]
#[command(next_help_heading = "SSH (targets of ssh://)")]
pub struct SshFlags {
    /// What a stream runs (default: dd as Coder's own test has it, by --traffic).
    #[arg(long, value_name = "COMMAND")]
    pub ssh_command: Option<String>,
    /// With a terminal (xterm, 80 x 25), whose own echo comes back.
    #[arg(long)]
    pub ssh_pty: bool,
    /// A shell instead of a command; what is typed are comments.
    #[arg(long)]
    pub ssh_shell: bool,
    /// Variable of the session's environment.
    #[arg(long, value_name = "NAME=VALUE")]
    pub ssh_env: Vec<String>,
    /// Streams are TCP through the server to there, instead of sessions on it.
    #[arg(long, value_name = "HOST:PORT")]
    pub ssh_forward: Option<String>,
    /// Streams that share a connection (default 1).
    #[arg(long, value_name = "N")]
    pub channels_per_connection: Option<u32>,
    /// Private key (OpenSSH or PEM); a {column} of --rows in the path gives each row its own.
    #[arg(long, value_name = "FILE")]
    pub ssh_identity: Vec<PathBuf>,
    /// OpenSSH user certificate for a key of --ssh-identity.
    #[arg(long, value_name = "FILE")]
    pub ssh_certificate: Option<PathBuf>,
    /// File with the password, also for keyboard-interactive.
    #[arg(long, value_name = "FILE")]
    pub ssh_password_file: Option<PathBuf>,
    /// File with the passphrase of the private key.
    #[arg(long, value_name = "FILE")]
    pub ssh_passphrase_file: Option<PathBuf>,
    /// Host keys that are believed, such as ~/.ssh/known_hosts.
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
    /// Believe a host at first sight, and hold it to that.
    #[arg(long)]
    pub accept_new: bool,
    /// Believe any host key.
    #[arg(long)]
    pub insecure_host_keys: bool,
    /// Ciphers offered, in this order, with commas between (default: all, cheapest first).
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub ssh_ciphers: Vec<String>,
    /// Key exchanges offered, likewise.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub ssh_kex: Vec<String>,
}

impl SshFlags {
    /// Writes the flags into a group.
    pub fn write_into(&self, group: &mut GroupSpec) {
        let file = |path: &Option<PathBuf>| path.as_ref().map(File::new);
        group.ssh_command.clone_from(&self.ssh_command);
        (group.ssh_pty, group.ssh_shell) = (self.ssh_pty, self.ssh_shell);
        group.ssh_env.clone_from(&self.ssh_env);
        group.ssh_forward.clone_from(&self.ssh_forward);
        group.channels_per_connection = self.channels_per_connection;
        group.ssh_identity = self.ssh_identity.iter().map(File::new).collect();
        group.ssh_certificate = file(&self.ssh_certificate);
        group.ssh_password_file = file(&self.ssh_password_file);
        group.ssh_passphrase_file = file(&self.ssh_passphrase_file);
        group.known_hosts = file(&self.known_hosts);
        (group.accept_new, group.insecure_host_keys) = (self.accept_new, self.insecure_host_keys);
        group.ssh_ciphers.clone_from(&self.ssh_ciphers);
        group.ssh_kex.clone_from(&self.ssh_kex);
    }
}
