//! A tap: a link whose other end is a file descriptor (Linux, Documentation/networking/tuntap.rst).
//!
//! Every frame comes with a header as virtio-net's drivers see it, [`HEADER_BYTES`] long and all zero but for its count of
//! buffers: no offload is agreed on, so there is nothing to say in it.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

/// Bytes of a frame's header (virtio 1.2, 5.1.6: `struct virtio_net_hdr`, with the number of buffers).
pub const HEADER_BYTES: usize = 12;

/// A tap.
#[derive(Debug)]
pub struct Tap(Arc<OwnedFd>);

impl Tap {
    /// Makes a tap of this name in the calling thread's namespace.
    ///
    /// # Errors
    /// There is no /dev/net/tun, it may not be opened, or the kernel refuses.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        // SAFETY: plain integers and pointers; zero is valid for all of them.
        let mut request: libc::ifreq = unsafe { zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(io::Error::other)?;
        // SAFETY: the request reads and writes one `ifreq`.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        let header = libc::c_int::try_from(HEADER_BYTES).map_err(io::Error::other)?;
        // SAFETY: the request reads one int.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const header) })?;
        // SAFETY: the request takes its argument by value: no offload.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, 0) })?;
        rustix::io::ioctl_fionbio(&file, true)?;
        Ok(Self(Arc::new(file.into())))
    }

    /// What takes and gives its frames, each behind its header, without waiting.
    #[must_use]
    pub fn wire(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }

    /// Bytes of the next frame for the guest's end; `None`: none has arrived.
    ///
    /// # Errors
    /// The link is down.
    pub(super) fn receive_now(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let mut header = [0; HEADER_BYTES];
        let parts = &mut [IoSliceMut::new(&mut header), IoSliceMut::new(into)];
        match rustix::io::readv(&self.0, parts) {
            Ok(len) => Ok(Some(len.saturating_sub(HEADER_BYTES))),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a frame from the guest's end.
    ///
    /// # Errors
    /// The link is down or full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let header = [0; HEADER_BYTES];
        rustix::io::writev(&self.0, &[IoSlice::new(&header), IoSlice::new(frame)])?;
        Ok(())
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
