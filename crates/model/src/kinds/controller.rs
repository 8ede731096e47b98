//! A member of the cluster, as it announces itself when it starts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::print::space;
use crate::{ByPeople, Invalid, Kind, Meta, Print, Resource, Rules, Scope};

/// A controller.
#[derive(Debug)]
pub enum Controller {}

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ControllerSpec {
    /// Its number in the Raft group; never given twice.
    pub node_id: u64,
    /// SHA-256 of its public key, hexadecimal: peers pin it.
    pub key_fingerprint: String,
    /// `host:port` for other controllers.
    pub peer_address: String,
    /// `host:port` for people and programs.
    pub api_address: String,
    /// `host:port` for agents.
    pub agent_address: String,
}

/// What it said when it last started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ControllerStatus {
    /// Its software's version.
    #[serde(default)]
    pub version: String,
    /// The highest cluster version it supports.
    #[serde(default)]
    pub supports: u32,
    /// `host:port` where monitoring reaches it; empty if only its own machine does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_address: String,
    /// True once it was removed: its certificate is worth nothing and its number stays taken.
    #[serde(default)]
    pub removed: bool,
}

impl Resource for Controller {
    const KIND: Kind = Kind::Controller;
    const SCOPE: Scope = Scope::System;
    const RULES: Rules = Rules {
        create: ByPeople::Never(
            "a controller registers itself: make an invitation for a controller and run `virtflow-controller join`",
        ),
        update: ByPeople::Never("it says itself what it is when it starts"),
        delete: ByPeople::ByVerb,
        ..Rules::plain("A member of the control plane")
    };
    type Spec = ControllerSpec;
    type Status = ControllerStatus;

    fn example() -> ControllerSpec {
        ControllerSpec {
            node_id: 1,
            key_fingerprint: "00".repeat(32),
            peer_address: "10.0.0.1:8445".into(),
            api_address: "10.0.0.1:8443".into(),
            agent_address: "10.0.0.1:8444".into(),
        }
    }
    fn validate(spec: &ControllerSpec) -> Result<(), Invalid> {
        Invalid::outside("node_id", spec.node_id, 1, u64::MAX)?;
        for (field, address) in [
            ("peer_address", &spec.peer_address),
            ("api_address", &spec.api_address),
            ("agent_address", &spec.agent_address),
        ] {
            Invalid::text(field, address, 261)?;
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                return Err(Invalid::new(field, "must be host:port"));
            }
        }
        Ok(())
    }
    /// A removed controller keeps its number and loses its name.
    fn footprint(meta: &Meta, spec: &ControllerSpec, status: &ControllerStatus) -> virtflow_types::Footprint {
        let mut print = Print::new();
        if !status.removed {
            print.claim(space::names(Kind::Controller, None), meta.name.as_bytes());
            print.key(crate::key::NAME, format!("controller/{}", meta.name));
        }
        Self::print(meta, spec, status, &mut print);
        print.finish()
    }
    fn print(_: &Meta, spec: &ControllerSpec, status: &ControllerStatus, print: &mut Print) {
        print.claim(space::NODE_ID, spec.node_id.to_be_bytes());
        if !status.removed {
            print.claim(space::PUBLIC_KEY, &spec.key_fingerprint);
            print.key("cluster.supports", status.supports.to_string());
        }
    }
}
