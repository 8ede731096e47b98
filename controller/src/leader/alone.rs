//! A leader's table of hosts without a controller around it, for measuring what heartbeats cost.

use std::fmt;

use prost::Message as _;
use tokio::time::Instant;
use virtflow_proto::agent::v1::agent_message::Body as Said;
use virtflow_proto::agent::v1::controller_message::Body as Told;
use virtflow_proto::agent::v1::{AgentMessage, ControllerMessage, HeartbeatAck, ReportRequest};
use virtflow_state::State;
use virtflow_types::ObjectId;

use super::table::{Hosts, Worth, judge};

/// The hosts that are online in an image, as a new leader knows them.
pub struct HostTable(Hosts);

impl fmt::Debug for HostTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostTable")
            .field("hosts", &self.0.live.len())
            .finish()
    }
}

impl HostTable {
    /// What a leader makes when it comes to lead.
    #[must_use]
    pub fn new(image: &State) -> Self {
        Self(Hosts::from_state(image, Instant::now()))
    }

    /// How many hosts are online.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.live.len()
    }

    /// True if none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.live.is_empty()
    }

    /// Takes one heartbeat as bytes and gives the answer as bytes; `None` for what is no heartbeat or is not
    /// taken. All that a leader does with one, but asking whether it still leads and counting it.
    pub fn beat(
        &mut self,
        image: &State,
        host: ObjectId,
        key: &str,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        let received = Instant::now();
        let Ok(AgentMessage {
            body: Some(Said::Heartbeat(beat)),
        }) = AgentMessage::decode(bytes)
        else {
            return None;
        };
        virtflow_logic::host_admitted(image, host, key).ok()?;
        let (session, sequence) = (beat.session, beat.sequence);
        let worth = judge(&mut self.0, host, beat, received, ObjectId::NIL);
        let Worth::Taken { wants_report, .. } = worth else {
            return None;
        };
        let told = match wants_report {
            true => Told::ReportRequest(ReportRequest { request: sequence }),
            false => Told::HeartbeatAck(HeartbeatAck { sequence, session }),
        };
        Some(ControllerMessage { body: Some(told) }.encode_to_vec())
    }

    /// Host, memory in use in MiB and CPU in use in parts per million, of each host that was heard.
    #[must_use]
    pub fn loads(&self) -> Vec<(ObjectId, u64, u32)> {
        self.0.loads()
    }
}
