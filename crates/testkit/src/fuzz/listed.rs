//! Which decoders there are, and where each is tried.

/// A decoder's target: a test that calls [`Target::run`](super::Target::run) under this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The target.
    pub name: &'static str,
    /// Its package.
    pub package: &'static str,
    /// The test in the package: in the library where it has modules before it, else in `tests/fuzz.rs`.
    pub test: &'static str,
    /// What is decoded, and by whom it may have been written.
    pub decodes: &'static str,
}

const fn listed(
    name: &'static str,
    package: &'static str,
    test: &'static str,
    decodes: &'static str,
) -> Listed {
    Listed {
        name,
        package,
        test,
        decodes,
    }
}

/// Every decoder.
pub const TARGETS: &[Listed] = &[
    listed(
        "changeset",
        "virtflow-state",
        "changeset",
        "a changeset of a log entry, and what it does to a state",
    ),
    listed(
        "batch",
        "virtflow-state",
        "batch",
        "a log entry: many changesets",
    ),
    listed(
        "row",
        "virtflow-state",
        "row",
        "an object with its footprint, as the log has it",
    ),
    listed(
        "append",
        "virtflow-raft",
        "wire::fuzz::append",
        "log entries from a leader",
    ),
    listed(
        "raft_message",
        "virtflow-raft",
        "wire::fuzz::raft_message",
        "votes, replies, digests, a snapshot's header and marks",
    ),
    listed(
        "envelope",
        "virtflow-raft",
        "wire::fuzz::envelope",
        "the envelope of every message between controllers, and a snapshot's chunk",
    ),
    listed(
        "peer_request",
        "virtflow-raft",
        "wire::fuzz::peer_request",
        "forwarded requests, relayed reports, records, joins",
    ),
    listed(
        "frame_record",
        "virtflow-raft",
        "log::fuzz::frame_record",
        "the frame of an entry in the log",
    ),
    listed(
        "log_file",
        "virtflow-raft",
        "log::fuzz::log_file",
        "the records of a log file, and what is left of a damaged one",
    ),
    listed(
        "log_identity",
        "virtflow-raft",
        "log::fuzz::log_identity",
        "whose log it is",
    ),
    listed(
        "state_file",
        "virtflow-shadow",
        "tests::fuzz::state_file",
        "a state file: a received snapshot, a start after damage",
    ),
    listed(
        "backup_manifest",
        "virtflow-shadow",
        "tests::fuzz::backup_manifest",
        "what a backup says of itself",
    ),
    listed(
        "agent_message",
        "virtflow-controller",
        "agents::fuzz::agent_message",
        "what an agent says, and its conversion",
    ),
    listed(
        "enrol_request",
        "virtflow-controller",
        "agents::fuzz::enrol_request",
        "an enrolment, which anyone may send",
    ),
    listed(
        "controller_message",
        "virtflow-agent",
        "local::fuzz::controller_message",
        "what a controller orders, and what becomes of it",
    ),
    listed(
        "enrol_reply",
        "virtflow-agent",
        "local::fuzz::enrol_reply",
        "the answer to an enrolment",
    ),
    listed(
        "local_state",
        "virtflow-agent",
        "local::fuzz::local_state",
        "the agent's state: the JSON",
    ),
    listed(
        "local_file",
        "virtflow-agent",
        "local::fuzz::local_file",
        "the agent's state: the file",
    ),
    listed(
        "domain_xml",
        "virtflow-agent",
        "xml::fuzz::domain_xml",
        "a domain's definition from libvirt",
    ),
    listed(
        "agent_config",
        "virtflow-agent",
        "config::fuzz::agent_config",
        "the agent's configuration",
    ),
    listed(
        "controller_config",
        "virtflow-controller",
        "config::fuzz::controller_config",
        "the controller's configuration",
    ),
    listed(
        "access_token",
        "virtflow-controller",
        "api::fuzz::access_token",
        "a session's JWT",
    ),
    listed(
        "request_body",
        "virtflow-controller",
        "api::fuzz::request_body",
        "a REST request's JSON",
    ),
    listed(
        "query",
        "virtflow-controller",
        "api::fuzz::query",
        "a REST request's query",
    ),
    listed(
        "audit_cursor",
        "virtflow-controller",
        "api::fuzz::audit_cursor",
        "where the audit trail goes on",
    ),
    listed(
        "cursor",
        "virtflow-logic",
        "read::fuzz::cursor",
        "where a list goes on",
    ),
    listed(
        "spec",
        "virtflow-model",
        "fuzz::spec",
        "the spec of any kind, and its footprint",
    ),
    listed(
        "status",
        "virtflow-model",
        "fuzz::status",
        "the stored status of any kind",
    ),
    listed(
        "token",
        "virtflow-pki",
        "fuzz::token",
        "join tokens, API tokens, hashes, fingerprints",
    ),
    listed(
        "identity",
        "virtflow-pki",
        "fuzz::identity",
        "who a certificate is for",
    ),
    listed(
        "certificate",
        "virtflow-pki",
        "fuzz::certificate",
        "a certificate, a CA",
    ),
    listed(
        "certificate_request",
        "virtflow-pki",
        "fuzz::certificate_request",
        "a CSR",
    ),
    listed(
        "pem",
        "virtflow-pki",
        "fuzz::pem",
        "keys, certificates and requests as PEM",
    ),
    listed(
        "sealed_box",
        "virtflow-pki",
        "fuzz::sealed_box",
        "sealed secrets, a wrapped seal key",
    ),
    listed(
        "sealed_ca",
        "virtflow-pki",
        "fuzz::sealed_ca",
        "the sealed CA",
    ),
    listed(
        "answer",
        "virtflow-client",
        "fuzz::answer",
        "a controller's answer to a client",
    ),
    listed(
        "endpoint",
        "virtflow-client",
        "fuzz::endpoint",
        "the name of a controller",
    ),
    listed(
        "amounts",
        "virtflow-cli",
        "fuzz::amounts",
        "sizes, spans, percentages and other flags",
    ),
    listed(
        "spec_path",
        "virtflow-cli",
        "fuzz::spec_path",
        "`--set path=value`",
    ),
    listed(
        "spec_file",
        "virtflow-cli",
        "fuzz::spec_file",
        "a spec in YAML or JSON",
    ),
    listed(
        "contexts",
        "virtflow-cli",
        "fuzz::contexts",
        "the contexts file",
    ),
    listed(
        "terminal_text",
        "virtflow-cli",
        "fuzz::terminal_text",
        "a guest's console, names of others",
    ),
];
