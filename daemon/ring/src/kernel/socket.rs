//! Sockets before they are the ring's: made, set and bound by ordinary calls.

use std::net::SocketAddr;
use std::os::fd::RawFd;

use crate::{InterfaceName, SocketOptions};

type Result<T> = std::result::Result<T, i32>;

/// A socket address as the kernel reads it.
#[repr(C)]
pub(super) union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// AF_UNSPEC: connecting to it is disconnecting (connect(2)).
pub(super) static DISCONNECT: libc::sa_family_t = libc::AF_UNSPEC as libc::sa_family_t;

impl Address {
    pub fn new(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self {
                v4: libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                },
            },
            SocketAddr::V6(v6) => Self {
                v6: libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                },
            },
        }
    }

    /// Pointer and length for a system call.
    pub fn as_raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        // SAFETY: both variants begin with the family, which is always initialised.
        let v6 = i32::from(unsafe { self.v4.sin_family }) == libc::AF_INET6;
        let len = if v6 { size_of::<libc::sockaddr_in6>() } else { size_of::<libc::sockaddr_in>() };
        ((&raw const *self).cast(), len as libc::socklen_t)
    }

    fn to_std(&self) -> SocketAddr {
        // SAFETY: the family says which variant the kernel filled in.
        unsafe {
            if i32::from(self.v4.sin_family) == libc::AF_INET6 {
                let v6 = &self.v6;
                (std::net::Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port)).into()
            } else {
                let v4 = &self.v4;
                (std::net::Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()), u16::from_be(v4.sin_port)).into()
            }
        }
    }
}

fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result >= 0 { Ok(result) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) }
}

/// Closes itself unless it is kept.
struct Descriptor(RawFd);

impl Descriptor {
    fn new(ipv6: bool) -> Result<Self> {
        let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
        // SAFETY: plain values only. Blocking on purpose: O_NONBLOCK makes the ring's receive fail
        // with EAGAIN instead of waiting.
        check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) }).map(Self)
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> Result<()> {
        // SAFETY: the value lives across the call and its size is given.
        let result = unsafe {
            libc::setsockopt(
                self.0,
                level,
                option,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            )
        };
        check(result).map(|_| ())
    }

    fn set_options(&self, options: &SocketOptions) -> Result<()> {
        self.set(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        for (option, bytes) in
            [(libc::SO_SNDBUF, options.send_buffer_bytes), (libc::SO_RCVBUF, options.receive_buffer_bytes)]
        {
            if let Some(bytes) = bytes {
                self.set(libc::SOL_SOCKET, option, i32::try_from(bytes).unwrap_or(i32::MAX))?;
            }
        }
        Ok(())
    }

    fn bind_to(&self, interface: &InterfaceName) -> Result<()> {
        let name = interface.bytes();
        // SAFETY: the name lives across the call and its size is given; it ends with NUL.
        let result = unsafe {
            let len = size_of_val(name) as libc::socklen_t;
            libc::setsockopt(self.0, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_ptr().cast(), len)
        };
        check(result).map(|_| ())
    }

    fn bind(&self, at: SocketAddr) -> Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        let address = Address::new(at);
        let (pointer, len) = address.as_raw();
        // SAFETY: the address lives across the call.
        check(unsafe { libc::bind(self.0, pointer, len) }).map(|_| ())
    }

    fn keep(self) -> RawFd {
        let fd = self.0;
        std::mem::forget(self);
        fd
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        close(self.0);
    }
}

pub(super) fn close(fd: RawFd) {
    // SAFETY: the caller owns the descriptor and forgets it.
    unsafe { libc::close(fd) };
}

/// A socket with its options set, bound where asked.
pub(super) fn open(options: &SocketOptions) -> Result<RawFd> {
    let descriptor = Descriptor::new(options.ipv6)?;
    descriptor.set_options(options)?;
    // Before bind(2), which looks whether another socket has the port on that interface.
    if let Some(interface) = &options.interface {
        descriptor.bind_to(interface)?;
    }
    if let Some(at) = options.bind {
        descriptor.bind(at)?;
    }
    Ok(descriptor.keep())
}

/// A listening socket and the address it got. Accepted sockets inherit its options (tcp(7)).
pub(super) fn listen(at: SocketAddr, options: &SocketOptions) -> Result<(RawFd, SocketAddr)> {
    let descriptor = Descriptor::new(at.is_ipv6())?;
    descriptor.set_options(options)?;
    descriptor.set(libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    descriptor.bind(at)?;
    let backlog = crate::host::somaxconn();
    // SAFETY: plain values only.
    check(unsafe { libc::listen(descriptor.0, backlog) })?;
    let mut bound = Address::new(at);
    let mut len = size_of::<Address>() as libc::socklen_t;
    // SAFETY: the address has room for `len` bytes and lives across the call.
    check(unsafe { libc::getsockname(descriptor.0, (&raw mut bound).cast(), &raw mut len) })?;
    Ok((descriptor.keep(), bound.to_std()))
}
