//! The rig's network: a bridge in a namespace of its own, one cable to every machine.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Node, NodeSpec};

const BRIDGE: &str = "lan0";
const PREFIX_LENGTH: u8 = 24;

/// The name of a machine's network card, inside it.
pub const CARD: &str = "eth0";

/// The address of the operator's place, in the namespace of the bridge.
pub const OPERATOR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 86, 0, 1);

/// The address on the rig's network that ends with `last`.
pub const fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 86, 0, last)
}

pub(super) fn start(rig: &Path) -> Result<Node> {
    let lan = Node::start(
        rig,
        NodeSpec {
            name: "lan".to_owned(),
            address: OPERATOR_ADDRESS,
            hypervisor: false,
        },
    )?;
    let address = format!("{OPERATOR_ADDRESS}/{PREFIX_LENGTH}");
    ip(&lan, &["link", "add", BRIDGE, "type", "bridge"])?;
    ip(&lan, &["address", "add", &address, "dev", BRIDGE])?;
    ip(&lan, &["link", "set", BRIDGE, "up"])?;
    Ok(lan)
}

pub(super) fn connect(lan: &Node, node: &Node) -> Result<()> {
    let cable = node.name();
    let namespace = node.init_pid().to_string();
    // The pid is the machine's, so this must not run in the lan's own pid namespace.
    crate::command::call(
        "nsenter",
        [
            "--target",
            &lan.init_pid().to_string(),
            "--net",
            "--",
            "ip",
            "link",
            "add",
            cable,
            "type",
            "veth",
            "peer",
            "name",
            CARD,
            "netns",
            &namespace,
        ],
    )
    .with_context(|| format!("laying the cable to node {cable}"))?;
    ip(lan, &["link", "set", cable, "master", BRIDGE, "up"])?;
    let address = format!("{}/{PREFIX_LENGTH}", node.address());
    ip(node, &["address", "add", &address, "dev", CARD])?;
    ip(node, &["link", "set", CARD, "up"])
}

/// Unplugs a machine from the network, or plugs it in again.
///
/// # Errors
/// When there is no such cable.
pub fn set_connected(lan: &Node, node: &Node, connected: bool) -> Result<()> {
    let state = if connected { "up" } else { "down" };
    ip(lan, &["link", "set", node.name(), state])
}

fn ip(node: &Node, arguments: &[&str]) -> Result<()> {
    node.call("ip", arguments).map(|_| ())
}
