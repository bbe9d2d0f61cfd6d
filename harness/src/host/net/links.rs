//! Links by rtnetlink (rtnetlink(7)): made, joined to a bridge, switched on.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use vtax_workloads::network::frame::Address;

use super::NetError;
use super::socket::index_of;

/// Most bytes of an acknowledgement, the request that it quotes included.
const ANSWER_BYTES: usize = 4096;

/// The links of the calling thread's network namespace.
pub(super) struct Links {
    socket: Socket,
    number: u32,
}

impl Links {
    /// Those of the calling thread's namespace, also from other threads.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, number: 0 })
    }

    /// A pair of Ethernet devices, each the other's wire.
    pub(super) fn veth(
        &mut self,
        one: (&str, Option<Address>),
        other: (&str, Option<Address>),
    ) -> Result<(), NetError> {
        let mut message = named(one);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(named(other)))),
        ]));
        self.create(message, "a veth pair")
    }

    /// A bridge whose ports forward at once.
    pub(super) fn bridge(&mut self, name: &str) -> Result<(), NetError> {
        let mut message = named((name, None));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![
                // Else a port learns for 15 s before it forwards, spanning tree or not.
                InfoBridge::ForwardDelay(0),
                InfoBridge::MulticastSnooping(false),
            ])),
        ]));
        self.create(message, "a bridge")
    }

    /// Makes a link a port of a bridge.
    pub(super) fn join(&mut self, name: &str, bridge: &str) -> Result<(), NetError> {
        let what = "a port of the bridge";
        let bridge = index_of(bridge).map_err(|source| NetError::Link { what, source })?;
        self.change(name, what, |message| {
            message.attributes.push(LinkAttribute::Controller(bridge));
        })
    }

    /// Switches a link on.
    pub(super) fn up(&mut self, name: &str) -> Result<(), NetError> {
        self.change(name, "a link that is up", |message| {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        })
    }

    fn create(&mut self, message: LinkMessage, what: &'static str) -> Result<(), NetError> {
        self.ask(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map_err(|source| NetError::Link { what, source })
    }

    fn change(
        &mut self,
        name: &str,
        what: &'static str,
        describe: impl FnOnce(&mut LinkMessage),
    ) -> Result<(), NetError> {
        let failed = |source| NetError::Link { what, source };
        let mut message = LinkMessage::default();
        message.header.index = index_of(name).map_err(failed)?;
        describe(&mut message);
        self.ask(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(failed)
    }

    fn ask(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.number += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        header.sequence_number = self.number;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        loop {
            answer.clear();
            match self.socket.recv(&mut answer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
                .map_err(io::Error::other)?;
            if message.header.sequence_number != self.number {
                continue;
            }
            return match message.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
                _ => Ok(()),
            };
        }
    }
}

fn named((name, address): (&str, Option<Address>)) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    if let Some(address) = address {
        message
            .attributes
            .push(LinkAttribute::Address(address.to_vec()));
    }
    message
}
