//! What this kernel can do, found by trying, never by its version number.

use io_uring::IoUring;

/// What may be used, or is. All but the floor (buffer rings, 5.19) have a fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Completions run when we wait, not in between (6.1). Fallback: cooperative task runs.
    pub defer_taskrun: bool,
    /// A wait may ask for a batch, or anything after a minimum time (6.12). Fallback: every wait
    /// is at most 500 µs.
    pub min_wait: bool,
    /// Submission without the index array (6.6). Fallback: with it.
    pub no_sqarray: bool,
    /// Sockets outside the process's file table (5.19). Fallback: ordinary descriptors.
    pub direct_descriptors: bool,
    /// A receive that goes on (6.0). Fallback: armed again after each.
    pub multishot_receive: bool,
    /// An accept that goes on (5.19). Fallback: armed again after each.
    pub multishot_accept: bool,
    /// io_uring_enter without looking the ring's descriptor up (5.18). Fallback: with it.
    pub registered_ring_fd: bool,
}

impl Features {
    /// Everything.
    pub const ALL: Self = Self {
        defer_taskrun: true,
        min_wait: true,
        no_sqarray: true,
        direct_descriptors: true,
        multishot_receive: true,
        multishot_accept: true,
        registered_ring_fd: true,
    };

    /// What this kernel has.
    ///
    /// # Errors
    /// io_uring cannot be used at all.
    pub fn probe() -> Result<Self, SetupError> {
        let (ring, mut features) = build(Self::ALL, 8, 16)?;
        features.direct_descriptors &= ring.submitter().register_files_sparse(1).is_ok();
        features.registered_ring_fd &= ring.submitter().register_ring_fd().is_ok();
        Ok(features)
    }

    /// Name, whether it is there, and since which kernel, for `doctor`.
    pub fn table(&self) -> [(&'static str, bool, &'static str); 7] {
        [
            ("defer_taskrun", self.defer_taskrun, "6.1"),
            ("min_wait", self.min_wait, "6.12"),
            ("no_sqarray", self.no_sqarray, "6.6"),
            ("direct_descriptors", self.direct_descriptors, "5.19"),
            ("multishot_receive", self.multishot_receive, "6.0"),
            ("multishot_accept", self.multishot_accept, "5.19"),
            ("registered_ring_fd", self.registered_ring_fd, "5.18"),
        ]
    }

    /// These without the ones named in `names` (comma-separated), to try the fallbacks.
    ///
    /// # Errors
    /// A name that is not in the table.
    pub fn without(mut self, names: &str) -> Result<Self, String> {
        for name in names.split(',').filter(|name| !name.is_empty()) {
            match name {
                "defer_taskrun" => self.defer_taskrun = false,
                "min_wait" => self.min_wait = false,
                "no_sqarray" => self.no_sqarray = false,
                "direct_descriptors" => self.direct_descriptors = false,
                "multishot_receive" => self.multishot_receive = false,
                "multishot_accept" => self.multishot_accept = false,
                "registered_ring_fd" => self.registered_ring_fd = false,
                other => {
                    let known = self.table().map(|(name, ..)| name).join(", ");
                    return Err(format!("no ring feature is called {other}; there are {known}"));
                }
            }
        }
        Ok(self)
    }
}

/// Why no ring can be set up. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The sysctl.
    #[error(
        "io_uring is switched off by sysctl kernel.io_uring_disabled={0}; run `sysctl -w kernel.io_uring_disabled=0`"
    )]
    Disabled(u32),
    /// EPERM without the sysctl.
    #[error(
        "io_uring is forbidden to this process (EPERM), as container runtimes do by seccomp; allow io_uring_setup, io_uring_enter and io_uring_register in its profile"
    )]
    Forbidden,
    /// ENOSYS.
    #[error("this kernel has no io_uring; Linux 6.1 or later is needed")]
    Missing,
    /// EINVAL where the floor's features are asked for.
    #[error("this kernel is too old ({what} is missing); Linux 6.1 or later is needed")]
    TooOld {
        /// What is missing.
        what: &'static str,
    },
    /// ENOMEM.
    #[error("no memory for the ring ({what}); raise `ulimit -l` (LimitMEMLOCK=infinity in the unit)")]
    Memory {
        /// What could not be had.
        what: &'static str,
    },
    /// Anything else.
    #[error("io_uring cannot be set up ({what})")]
    Other {
        /// At which step.
        what: &'static str,
        /// The kernel's word.
        source: std::io::Error,
    },
}

impl SetupError {
    pub(super) fn at(what: &'static str, source: std::io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => match crate::host::io_uring_disabled() {
                Some(value @ 1..) => Self::Disabled(value),
                _ => Self::Forbidden,
            },
            Some(libc::ENOSYS) => Self::Missing,
            Some(libc::ENOMEM) => Self::Memory { what },
            Some(libc::EINVAL) => Self::TooOld { what },
            _ => Self::Other { what, source },
        }
    }

    pub(super) fn table(source: std::io::Error) -> Self {
        Self::at("the table of direct descriptors", source)
    }
}

/// A ring with as much of `wanted` as the kernel takes: what it refuses is peeled off.
pub(super) fn build(
    wanted: Features,
    submissions: u32,
    completions: u32,
) -> Result<(IoUring, Features), SetupError> {
    let mut features = wanted;
    loop {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions).setup_submit_all().dontfork();
        if features.defer_taskrun {
            builder.setup_single_issuer().setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        if features.no_sqarray {
            builder.setup_no_sqarray();
        }
        match builder.build(submissions) {
            Ok(ring) => {
                features.min_wait &= ring.params().is_feature_min_timeout();
                return Ok((ring, features));
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                if features.no_sqarray {
                    features.no_sqarray = false;
                } else if features.defer_taskrun {
                    features.defer_taskrun = false;
                } else {
                    return Err(SetupError::at("io_uring_setup", error));
                }
            }
            Err(error) => return Err(SetupError::at("io_uring_setup", error)),
        }
    }
}

pub(super) const ENTER_GETEVENTS: u32 = 1;
pub(super) const ENTER_EXT_ARG: u32 = 1 << 3;

/// struct io_uring_getevents_arg (io_uring_enter(2)).
#[repr(C)]
pub(super) struct WaitArgs {
    sigmask: u64,
    sigmask_bytes: u32,
    pub min_wait_us: u32,
    pub timespec: u64,
}

impl WaitArgs {
    pub const fn none() -> Self {
        Self { sigmask: 0, sigmask_bytes: 8, min_wait_us: 0, timespec: 0 }
    }
}

/// struct __kernel_timespec.
#[repr(C)]
pub(super) struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

impl Timespec {
    pub const fn from_ns(ns: u64) -> Self {
        Self { seconds: (ns / 1_000_000_000) as i64, nanoseconds: (ns % 1_000_000_000) as i64 }
    }
}
