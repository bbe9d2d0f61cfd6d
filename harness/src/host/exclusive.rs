//! One vtax at a time: two would disturb each other's measurements, and each other's settings of the host.
//!
//! The lock is a socket's name in the kernel's abstract namespace (unix(7)): there is no file, anybody may take it, the
//! kernel frees it when its holder dies, however that comes about, and it knows the holder. Names are those of a network
//! namespace; a container with one of its own excludes only what is in it.

use std::io;

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

const NAME: &[u8] = b"vtax-host";

/// The right to measure on this host and to change it, until dropped.
#[derive(Debug)]
pub struct Exclusive {
    _socket: rustix::fd::OwnedFd,
}

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ExclusiveError {
    /// Another vtax has it.
    #[error(
        "another vtax is at work on this host ({0}); two at once would disturb each other: wait until it ends, or stop it"
    )]
    Taken(String),
    /// No socket.
    #[error("whether another vtax is at work on this host cannot be told: {0}")]
    Socket(#[from] io::Error),
}

impl Exclusive {
    /// Takes it.
    ///
    /// # Errors
    /// [`ExclusiveError`].
    pub fn take() -> Result<Self, ExclusiveError> {
        Self::take_named(NAME)
    }

    fn take_named(name: &[u8]) -> Result<Self, ExclusiveError> {
        let address = SocketAddrUnix::new_abstract_name(name).map_err(io::Error::from)?;
        let socket = stream()?;
        match bind(&socket, &address) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => return Err(ExclusiveError::Taken(holder(&address))),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        // Whoever connects is told by the kernel who listens.
        listen(&socket, 16).map_err(io::Error::from)?;
        Ok(Self { _socket: socket })
    }
}

/// Closed on exec: what vtax starts must not hold the lock after it.
fn stream() -> io::Result<rustix::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// Who listens at the address, in words.
fn holder(address: &SocketAddrUnix) -> String {
    let ask = || -> io::Result<(i32, u32)> {
        let socket = stream()?;
        connect(&socket, address)?;
        let peer = socket_peercred(&socket)?;
        Ok((peer.pid.as_raw_nonzero().get(), peer.uid.as_raw()))
    };
    match ask() {
        Ok((pid, uid)) => format!("process {pid} of user {uid}"),
        // It is between its two steps, or many ask at once.
        Err(_) => "its process is not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let name = format!("vtax-test-{}", std::process::id());
        let first = Exclusive::take_named(name.as_bytes()).unwrap();
        let error = Exclusive::take_named(name.as_bytes()).unwrap_err();
        let first_is = format!("process {} of user", std::process::id());
        assert!(error.to_string().contains(&first_is), "{error}");
        drop(first);
        Exclusive::take_named(name.as_bytes()).unwrap();
    }
}
