//! Network links of vtax's own, for guests and for their native twins.
//!
//! ```text
//! Network::build, in a thread of its own: a new network namespace
//!   namespace: tap ─ peer            native ─ veth ─ peer
//!   bridge:    tap ─┬─ bridge ─┬─ veth ─ peer
//!           native ─┴─ veth    │
//! ```
//!
//! The namespace has no name and no way out. What holds it are the file descriptors of [`Network`]: when the last is
//! closed, by whatever end the process comes to, the kernel removes all that is in it.

mod links;
mod peers;
mod socket;
mod tap;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::thread::{UnshareFlags, unshare_unsafe};
use vtax_scenarios::plan::NetLink;
use vtax_workloads::network::frame::{
    Address, Frame, GUEST, LARGEST, NATIVE, PEER, Purpose, SMALLEST,
};

use links::Links;
use peers::Peers;
pub use socket::PacketSocket;
pub use tap::{HEADER_BYTES, Tap};

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No namespace of our own.
    #[error(
        "vtax may not make a network namespace ({0}): run it as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN, or as \
         `unshare --map-root-user --net vtax …`"
    )]
    Namespace(io::Error),
    /// No tap.
    #[error("no tap device ({0}): it takes /dev/net/tun (modprobe tun) and the right to open it")]
    Tap(io::Error),
    /// The kernel refused a link.
    #[error(
        "{what} could not be made: {source}; the kernel needs veth and, for a bridge, bridge (modprobe them)"
    )]
    Link {
        /// What was to be made.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// No socket on a link.
    #[error(
        "no packet socket on {on} ({source}): it takes CAP_NET_RAW and a kernel with CONFIG_PACKET"
    )]
    Socket {
        /// Which link.
        on: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Nothing comes back over a link.
    #[error(
        "no frame comes back over {0}: something on this host drops it (a filter on bridges, perhaps)"
    )]
    Dead(&'static str),
    /// The thread that makes it.
    #[error("no thread to make a network in: {0}")]
    Thread(io::Error),
}

/// A guest's link, its native twin's, and a peer at the other end of each, which answers.
#[derive(Debug)]
pub struct Network {
    /// The guest's end.
    pub tap: Tap,
    /// The native twin's end.
    pub native: PacketSocket,
    peers: Peers,
    _namespace: OwnedFd,
}

/// All ends of the links.
#[derive(Debug)]
struct Ends {
    tap: Tap,
    native: PacketSocket,
    /// The other ends: one for both, or the guest's and the twin's.
    peers: Vec<PacketSocket>,
    namespace: OwnedFd,
}

impl Network {
    /// Makes the links in a namespace of their own, and starts the peers.
    ///
    /// # Errors
    /// [`NetError`]: this host, or the right to it, lacks something. Nothing is left behind.
    pub fn build(link: NetLink) -> Result<Self, NetError> {
        let ends = Ends::build(link)?;
        let network = Self {
            tap: ends.tap,
            native: ends.native,
            peers: Peers::start(ends.peers).map_err(NetError::Thread)?,
            _namespace: ends.namespace,
        };
        let Self { tap, native, .. } = &network;
        try_out(
            "the native side's link",
            NATIVE,
            |frame| native.send(frame),
            |bytes| native.receive_now(bytes),
        )?;
        try_out(
            "the guest's link",
            GUEST,
            |frame| tap.send(frame),
            |bytes| tap.receive_now(bytes),
        )?;
        Ok(network)
    }
}

/// Sends frames until one comes back: a link that has just come up drops them for a moment.
fn try_out(
    which: &'static str,
    from: Address,
    send: impl Fn(&[u8]) -> io::Result<()>,
    receive: impl Fn(&mut [u8]) -> io::Result<Option<usize>>,
) -> Result<(), NetError> {
    let mut ping = [0; SMALLEST];
    Frame {
        to: PEER,
        from,
        purpose: Purpose::Ping,
        last: true,
        run: 0,
        number: 0,
        count: 0,
        sum: 0,
    }
    .write(&mut ping);
    let start = Instant::now();
    let failed = |source| NetError::Link {
        what: which,
        source,
    };
    while start.elapsed() < PATIENCE {
        send(&ping).map_err(failed)?;
        std::thread::sleep(BREATH);
        let mut bytes = [0; LARGEST];
        while let Some(len) = receive(&mut bytes).map_err(failed)? {
            let frame = bytes.get(..len).and_then(Frame::read);
            if frame.is_some_and(|frame| frame.to == from && frame.purpose == Purpose::Echo) {
                return Ok(());
            }
        }
    }
    Err(NetError::Dead(which))
}

/// A link that carries nothing after this long never will: a change of a link takes the kernel at most a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two attempts.
const BREATH: Duration = Duration::from_micros(200);

impl Drop for Network {
    fn drop(&mut self) {
        self.peers.stop(&self.native, &self.tap);
    }
}

impl Ends {
    fn build(link: NetLink) -> Result<Self, NetError> {
        // A namespace is a thread's: this one's ends with it, and the descriptors keep it.
        std::thread::Builder::new()
            .name("network".into())
            .spawn(move || build(link))
            .map_err(NetError::Thread)?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn build(link: NetLink) -> Result<Ends, NetError> {
    // SAFETY: file descriptors stay shared; only the thread's network changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .map_err(|error| NetError::Namespace(error.into()))?;
    let namespace = fs::File::open("/proc/thread-self/ns/net").map_err(NetError::Namespace)?;
    // Neighbour discovery would send frames of its own. A kernel without IPv6 has no such switch.
    for scope in ["all", "default"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
    }
    let tap = Tap::open("tap").map_err(NetError::Tap)?;
    let mut links = Links::open().map_err(|source| NetError::Link {
        what: "a connection to the kernel's network configuration",
        source,
    })?;
    links.veth(("native", Some(NATIVE)), ("native-end", None))?;
    let peers: &[&'static str] = match link {
        NetLink::Namespace => &["tap", "native-end"],
        NetLink::Bridge => {
            links.veth(("peer", Some(PEER)), ("peer-end", None))?;
            links.bridge("bridge")?;
            for port in ["tap", "native-end", "peer-end"] {
                links.join(port, "bridge")?;
            }
            for name in ["bridge", "peer", "peer-end"] {
                links.up(name)?;
            }
            &["peer"]
        }
    };
    for name in ["tap", "native", "native-end"] {
        links.up(name)?;
    }
    let socket = |on| PacketSocket::on(on).map_err(|source| NetError::Socket { on, source });
    Ok(Ends {
        tap,
        native: socket("native")?,
        peers: peers
            .iter()
            .map(|&on| socket(on))
            .collect::<Result<_, _>>()?,
        namespace: namespace.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The links, or why there are none here.
    fn ends(name: &str, link: NetLink) -> Option<Ends> {
        match Ends::build(link) {
            Ok(network) => Some(network),
            Err(error @ NetError::Namespace(_) | error @ NetError::Tap(_)) => {
                eprintln!("SKIPPED {name}: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn frames_come_back_on_both_links() {
        for link in [NetLink::Namespace, NetLink::Bridge] {
            if ends("frames_come_back_on_both_links", link).is_none() {
                return;
            }
            // It tries both links out.
            let network = Network::build(link).unwrap();
            // A peer answers what is meant for it alone.
            let mut bytes = [0; SMALLEST];
            let frame = Frame {
                to: GUEST,
                from: NATIVE,
                purpose: Purpose::Ping,
                last: true,
                run: 3,
                number: 0,
                count: 0,
                sum: 0,
            };
            for to in [GUEST, PEER] {
                Frame { to, ..frame }.write(&mut bytes);
                network.native.send(&bytes).unwrap();
            }
            let mut answer = [0; LARGEST];
            loop {
                let len = network.native.receive(&mut answer).unwrap().unwrap();
                let frame = Frame::read(&answer[..len]).unwrap();
                // Run 0: more answers to the trial.
                if frame.run == 3 {
                    assert_eq!((frame.from, frame.purpose), (PEER, Purpose::Echo));
                    break;
                }
            }
        }
    }

    #[test]
    fn it_has_no_link_in_the_namespace_that_others_are_in() {
        let before = fs::read_to_string("/proc/net/dev").unwrap();
        let Some(_ends) = ends(
            "it_has_no_link_in_the_namespace_that_others_are_in",
            NetLink::Bridge,
        ) else {
            return;
        };
        let names = |text: &str| -> Vec<String> {
            text.lines()
                .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
                .collect()
        };
        let after = fs::read_to_string("/proc/net/dev").unwrap();
        assert_eq!(names(&before), names(&after));
        assert!(!names(&after).iter().any(|name| name == "native-end"));
    }
}
