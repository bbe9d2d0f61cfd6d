//! A socket for raw frames of vtax's EtherType on one link (packet(7)).

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send,
    socket_with, sockopt,
};
use vtax_workloads::network::frame::ETHERTYPE;

/// How long [`PacketSocket::receive`] waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// A socket on one link.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// On a link of the calling thread's namespace.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn on(link: &str) -> io::Result<Self> {
        // Protocol 0: nothing arrives until the socket is bound to its link.
        let socket = raw_socket(AddressFamily::PACKET, SocketType::RAW)?;
        let index = netdevice::name_to_index(&socket, link)?;
        // SAFETY: plain integers; zero is valid for all of them.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = AddressFamily::PACKET.as_raw();
        address.sll_protocol = ETHERTYPE.to_be();
        address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
        let len = u32::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
        // SAFETY: the address is as long as said, and lives until the call returns.
        let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Sends a frame; waits where the link has no room.
    ///
    /// # Errors
    /// The link is gone or down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            match send(&self.0, frame, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                // The device's queue is full for the moment; packet(7) does not wait for that.
                Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Bytes of the next frame; `None`: none has arrived.
    ///
    /// # Errors
    /// The link is gone or down.
    pub fn receive_now(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.take(into, RecvFlags::DONTWAIT)
    }

    /// Waits for the next frame; `None`: for too long.
    ///
    /// # Errors
    /// The link is gone or down.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.take(into, RecvFlags::empty())
    }

    fn take(&self, into: &mut [u8], flags: RecvFlags) -> io::Result<Option<usize>> {
        loop {
            match recv(&self.0, &mut *into, flags) {
                Ok((len, _)) => return Ok(Some(len)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The number of a link of the calling thread's namespace.
pub(super) fn index_of(link: &str) -> io::Result<u32> {
    let any = raw_socket(AddressFamily::UNIX, SocketType::DGRAM)?;
    Ok(netdevice::name_to_index(any, link)?)
}

fn raw_socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let protocol: Option<Protocol> = None;
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?)
}
