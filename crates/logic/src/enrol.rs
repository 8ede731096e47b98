//! Joining: a one-time token becomes a host, or the right of a controller to introduce itself.

use virtflow_model::kinds::baremetal::{BaremetalSpec, BaremetalStatus, HostState, Liveness};
use virtflow_model::kinds::controller::{ControllerSpec, ControllerStatus};
use virtflow_model::kinds::join_token::JoinRole;
use virtflow_model::kinds::{Baremetal, Controller, JoinToken};
use virtflow_model::{Kind, Resource, space};
use virtflow_state::{Changeset, ClusterVersionTooNew, State};
use virtflow_types::{
    Error, ErrorCode, NAME_BYTES_MAX, Name, ObjectId, RequestId, Text, Timestamp, is_host_port,
};

use crate::audit::Entry;
use crate::cx::{Cx, same_secret, unauthenticated};
use crate::draft::{Draft, Place};
use crate::observe::checked;
use crate::read::named;
use crate::site::data_center_of;
use crate::typed::{Typed, decoded};

/// Tries at finding a free name for a host.
const NAME_TRIES: usize = 100;

/// A machine that wants to join.
#[derive(Debug, Clone)]
pub struct Enrol {
    /// Id from the token's text.
    pub token_id: ObjectId,
    /// Hash of the token's secret, hexadecimal.
    pub secret_hash: String,
    /// Fingerprint of the key it made, hexadecimal.
    pub key_fingerprint: String,
    /// Its serial number.
    pub serial_number: String,
    /// What it calls itself.
    pub hostname: String,
    /// Version of its software.
    pub agent_version: String,
    /// The address it came from.
    pub source: String,
    /// A fresh id, for a host or controller that is new.
    pub new_id: ObjectId,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// What the certificate is for.
    pub role: JoinRole,
    /// The host, or the id of the new controller: the certificate's subject.
    pub subject_id: ObjectId,
    /// The host's name; the name as given for a controller.
    pub name: String,
    /// The same key came with the same token before.
    pub reused: bool,
}

/// Uses a join token. The same key may use it again and gets the same answer; any other key is refused.
pub fn enrol(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    enrol: &Enrol,
) -> Result<(Changeset, Enrolled), Error> {
    let mut cx = Cx::system(request_id, now);
    cx.source.clone_from(&enrol.source);
    let mut draft = Draft::new(state, &cx);
    let token = check_token(state, now, enrol)?;
    if token.status.used_by_key == enrol.key_fingerprint {
        let enrolled = again(state, enrol, &token)?;
        return Ok((draft.finish(), enrolled));
    }
    let enrolled = match token.spec.role {
        JoinRole::Agent => register(&mut draft, enrol, &token)?,
        JoinRole::Controller => Enrolled {
            role: JoinRole::Controller,
            subject_id: enrol.new_id,
            name: enrol.hostname.clone(),
            reused: false,
        },
    };
    let used = draft.update::<JoinToken>(enrol.token_id, |_, status| {
        status.used_by_key.clone_from(&enrol.key_fingerprint);
        status.used_for = Some(enrolled.subject_id);
    })?;
    draft.audit(&Entry {
        action: "join_token.use",
        object: &used,
        before: None,
        note: &format!(
            "serial number {}, subject {}",
            enrol.serial_number, enrolled.subject_id
        ),
    });
    Ok((checked(state, draft)?, enrolled))
}

fn check_token(
    state: &State,
    now: Timestamp,
    enrol: &Enrol,
) -> Result<std::sync::Arc<Typed<JoinToken>>, Error> {
    let refused = || {
        unauthenticated("the join token is not valid, or not any more")
            .advise("make a new one: `virtflow invite create`")
    };
    let token = state.get(enrol.token_id).ok_or_else(refused)?;
    let token = decoded::<JoinToken>(token).map_err(|_| refused())?;
    if !same_secret(&token.status.secret_hash, &enrol.secret_hash) {
        return Err(refused());
    }
    let used_by = &token.status.used_by_key;
    if *used_by == enrol.key_fingerprint {
        return Ok(token);
    }
    if !used_by.is_empty() || token.spec.expires_at <= now {
        return Err(refused());
    }
    if let Some(bound) = &token.spec.serial_number
        && *bound != enrol.serial_number
    {
        return Err(unauthenticated(&format!(
            "the join token is bound to the serial number `{bound}`, this machine has `{}`",
            enrol.serial_number
        ))
        .advise("use it on the right machine, or make one for this one"));
    }
    Ok(token)
}

fn again(state: &State, enrol: &Enrol, token: &Typed<JoinToken>) -> Result<Enrolled, Error> {
    let removed = || {
        unauthenticated("what joined with this token was removed")
            .advise("make a new join token: `virtflow invite create`")
    };
    let subject_id = token.status.used_for.ok_or_else(removed)?;
    let name = match token.spec.role {
        JoinRole::Agent => {
            crate::observe::host_admitted(state, subject_id, &enrol.key_fingerprint)
                .map_err(|_| removed())?;
            state
                .get(subject_id)
                .map_or_else(String::new, |host| host.name.to_string())
        }
        JoinRole::Controller => enrol.hostname.clone(),
    };
    Ok(Enrolled {
        role: token.spec.role,
        subject_id,
        name,
        reused: true,
    })
}

fn register(
    draft: &mut Draft<'_>,
    enrol: &Enrol,
    token: &Typed<JoinToken>,
) -> Result<Enrolled, Error> {
    let state = draft.state;
    let serial = enrol.serial_number.trim();
    if let Some(known) = state.holder(space::SERIAL_NUMBER, serial.as_bytes()) {
        return rejoin(draft, enrol, token, known.id);
    }
    let group_id = token
        .spec
        .group_id
        .ok_or_else(|| Error::invalid("group_id", "the join token names no group"))?;
    let spec = BaremetalSpec {
        serial_number: serial.to_owned(),
        group_id,
        rack_id: token.spec.rack_id,
        management_address: None,
        state: HostState::Active,
        machine_type: Default::default(),
        rental: Default::default(),
        business_address: None,
        region: String::new(),
        fab: String::new(),
        phase: String::new(),
        dc: String::new(),
        room: String::new(),
        unit: String::new(),
        external_system_id: None,
        description: String::new(),
        labels: Default::default(),
    };
    Baremetal::validate(&spec)?;
    let wanted = token.spec.host_name.as_deref().unwrap_or(&enrol.hostname);
    let name = free_name(state, wanted)?;
    let status = BaremetalStatus {
        key_fingerprint: enrol.key_fingerprint.clone(),
        agent_version: enrol.agent_version.clone(),
        liveness_since: draft.cx.now,
        data_center_id: data_center_of(state, &spec),
        ..BaremetalStatus::default()
    };
    let place = Place {
        id: Some(enrol.new_id),
        name: name.clone(),
        ..Place::default()
    };
    let host = draft.create::<Baremetal>(place, spec, status)?;
    draft.audit(&Entry {
        action: "baremetal.register",
        object: &host,
        before: None,
        note: &format!("by join token {}", enrol.token_id),
    });
    Ok(Enrolled {
        role: JoinRole::Agent,
        subject_id: host.id,
        name: name.to_string(),
        reused: false,
    })
}

/// A machine that is known already. With another key only if an operator made the token for this very
/// serial number: otherwise whoever has any token could take over any host.
fn rejoin(
    draft: &mut Draft<'_>,
    enrol: &Enrol,
    token: &Typed<JoinToken>,
    host: ObjectId,
) -> Result<Enrolled, Error> {
    let typed = draft.typed::<Baremetal>(host)?;
    let name = draft
        .get(host)
        .map_or_else(String::new, |host| host.name.to_string());
    if typed.status.key_fingerprint != enrol.key_fingerprint {
        if token.spec.serial_number.is_none() {
            return Err(Error::new(
                ErrorCode::AlreadyExists,
                format!(
                    "the serial number `{}` is host `{name}`'s",
                    enrol.serial_number
                ),
            )
            .advise("make a join token bound to this serial number, or remove the host first"));
        }
        let now = draft.cx.now;
        let object = draft.update::<Baremetal>(host, |_, status| {
            status.key_fingerprint.clone_from(&enrol.key_fingerprint);
            if status.liveness == Liveness::Online {
                status.liveness = Liveness::Offline;
                status.liveness_since = now;
            }
        })?;
        draft.audit(&Entry {
            action: "baremetal.rekey",
            object: &object,
            before: None,
            note: "joined again with another key, by a token bound to its serial number",
        });
    }
    Ok(Enrolled {
        role: JoinRole::Agent,
        subject_id: host,
        name,
        reused: false,
    })
}

/// A valid name that nobody has, as near to the wanted one as can be.
fn free_name(state: &State, wanted: &str) -> Result<Text, Error> {
    let mut base: String = wanted
        .to_lowercase()
        .chars()
        .map(|c| {
            if matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-') {
                c
            } else {
                '-'
            }
        })
        .take(NAME_BYTES_MAX - 4)
        .collect();
    base = base.trim_matches(['.', '_', '-']).to_owned();
    if base.is_empty() {
        "host".clone_into(&mut base);
    }
    for n in 1..=NAME_TRIES {
        let name = match n {
            1 => base.clone(),
            n => format!("{base}-{n}"),
        };
        if named(state, Kind::Baremetal, None, &name).is_none() {
            return Ok(name.into());
        }
    }
    Err(Error::new(
        ErrorCode::AlreadyExists,
        format!("`{base}` and {NAME_TRIES} names after it are taken"),
    )
    .advise("give the join token a host name"))
}

/// What a member says of itself when it starts.
#[derive(Debug, Clone)]
pub struct Announce {
    /// Its store: the id of its object.
    pub store_id: ObjectId,
    /// Its name.
    pub name: String,
    /// Its number, key and addresses.
    pub spec: ControllerSpec,
    /// Its software's version.
    pub version: String,
    /// The highest cluster version it supports.
    pub supports: u32,
    /// Where monitoring reaches it, `host:port`; empty if only its own machine does.
    pub status_address: String,
}

/// Refuses a member that does not support the version the cluster is at.
pub fn controller_supports(state: &State, supports: u32) -> Result<(), Error> {
    ClusterVersionTooNew::check(state.cluster_version(), supports)
        .map_err(|error| Error::new(ErrorCode::Forbidden, error.to_string()))
}

/// A member says who it is and what it supports. No ops if all of that is known.
pub fn controller_announce(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    announce: &Announce,
) -> Result<Changeset, Error> {
    let Announce {
        store_id,
        name,
        spec,
        version,
        supports,
        status_address,
    } = announce;
    let store_id = *store_id;
    let cx = Cx::system(request_id, now);
    let mut draft = Draft::new(state, &cx);
    Name::new(name).map_err(|error| Error::invalid("name", error.to_string()))?;
    Controller::validate(spec)?;
    controller_supports(state, *supports)?;
    if !status_address.is_empty() && !is_host_port(status_address) {
        return Err(Error::invalid("status_address", "must be host:port"));
    }
    let status = ControllerStatus {
        version: version.clone(),
        supports: *supports,
        status_address: status_address.clone(),
        removed: false,
    };
    let object = if state.get(store_id).is_some() {
        if draft.typed::<Controller>(store_id)?.status.removed {
            return Err(
                unauthenticated("this controller was removed from the cluster")
                    .advise("empty its data folder and join it anew"),
            );
        }
        draft.rewrite::<Controller>(store_id, |row, old_spec, old_status| {
            row.name = name.into();
            old_spec.clone_from(spec);
            *old_status = status;
        })?
    } else {
        let place = Place {
            id: Some(store_id),
            name: name.into(),
            ..Place::default()
        };
        draft.create::<Controller>(place, spec.clone(), status)?
    };
    draft.audit(&Entry {
        action: "controller.announce",
        object: &object,
        before: None,
        note: &format!("version {version}, supports cluster version {supports}"),
    });
    checked(state, draft)
}

/// A member was taken out of the group: its certificate is worth nothing. No ops if that is known.
pub fn controller_removed(
    state: &State,
    request_id: RequestId,
    now: Timestamp,
    store_id: ObjectId,
) -> Result<Changeset, Error> {
    let cx = Cx::system(request_id, now);
    let mut draft = Draft::new(state, &cx);
    let object = draft.update::<Controller>(store_id, |_, status| status.removed = true)?;
    draft.audit(&Entry {
        action: "controller.removed",
        object: &object,
        before: None,
        note: "taken out of the group",
    });
    checked(state, draft)
}
