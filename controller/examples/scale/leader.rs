//! What leading costs: coming to lead, placing, hearing heartbeats.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use prost::Message as _;
use virtflow_controller::testing::HostTable;
use virtflow_logic::loops::{Agenda, TIMED, WATCHING};
use virtflow_logic::{Limits, Placer};
use virtflow_model::kinds::baremetal_group::SchedulingPolicy;
use virtflow_model::{Kind, key};
use virtflow_proto::agent::v1::agent_message::Body;
use virtflow_proto::agent::v1::{AgentMessage, GuestLoad, Heartbeat, Load};
use virtflow_scheduler::{DIMENSIONS, Group, Host, Inventory, Request, Room, Standing, place};
use virtflow_state::{AccountKey, State};
use virtflow_types::{ObjectId, Timestamp};

use crate::figures::{Samples, Table, ratio, time};
use crate::world::World;

/// Time between two heartbeats of a host.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Rounds of heartbeats of all hosts.
const ROUNDS: u64 = 5;
/// Placements by the bare pass.
const BARE: u32 = 256;

/// What a controller does between "leads" and its first placements, on a state that was read from rows and
/// in which nothing was looked at yet.
pub(crate) fn change(state: &State, now: Timestamp, table: &mut Table) -> Result<()> {
    let limits = Limits::default();
    let began = Instant::now();
    let hosts = HostTable::new(state);
    let known = began.elapsed();
    let agendas: Vec<Agenda> = WATCHING
        .iter()
        .map(|loop_| Agenda::new(*loop_, state))
        .collect();
    let listed = began.elapsed();
    let mut timed = 0;
    for (_, pass) in TIMED {
        timed += pass(state, now, &limits).len();
    }
    let looked = began.elapsed();
    let mut placer = Placer::new(state);
    let ready = began.elapsed();
    let placed = placer.pass(state, now, &limits).len();
    let all = began.elapsed();
    ensure!(timed == 0, "{timed} things were due in a healthy cloud");
    ensure!(
        hosts.len() == placer.hosts(),
        "the table and the placer differ"
    );
    let parts = format!(
        "host table {}, agendas of {} loops {}, timed loops {}, placer {}",
        time(known),
        agendas.len(),
        time(listed - known),
        time(looked - listed),
        time(ready - looked)
    );
    table.time(
        "a new leader is ready",
        ready,
        &parts,
        Duration::from_secs(1),
    );
    table.add(
        &format!("a new leader's first {placed} placements are decided after"),
        time(all),
        "",
        None,
    );
    Ok(())
}

/// The same decisions by the pass over the hosts alone, without a state.
pub(crate) fn bare_pass(state: &State) -> Result<Duration> {
    let mut inventory = Inventory::new();
    let group = state.of_kind(Kind::BaremetalGroup.name(), None).next();
    inventory.put_group(Group {
        id: group.context("there is no group")?.id,
        policy: SchedulingPolicy::default(),
    });
    for host in state.of_kind(Kind::Baremetal.name(), None) {
        let mut total = [0; DIMENSIONS.len()];
        let mut free = total;
        for (at, dimension) in DIMENSIONS.iter().enumerate() {
            let key = AccountKey::new(host.id, *dimension);
            total[at] = state.limit_of(&key).unwrap_or(0);
            free[at] = total[at] - state.account(&key).map_or(0, |account| account.used);
        }
        inventory.put_host(Host {
            id: host.id,
            group: 0,
            zone: ObjectId::NIL,
            standing: Standing::Ready,
            total,
            free,
            unused_memory_mib: u64::MAX,
            busy_ppm: 0,
        });
    }
    let rooms = [Room::Left([u64::MAX; 4])];
    let demand = [2000, 4096, 40, 0];
    let began = Instant::now();
    for _ in 0..BARE {
        let request = Request::new(demand, &rooms);
        let host = place(&inventory, &request).context("no host has room")?;
        inventory.take(host, demand);
    }
    Ok(began.elapsed() / BARE)
}

/// All hosts' heartbeats, and decoding alone.
pub(crate) fn heartbeats(world: &World, state: &State, table: &mut Table) -> Result<()> {
    let mut hosts = HostTable::new(state);
    let (mut decoding, mut whole) = (Samples::default(), Samples::default());
    let mut bytes = 0;
    for round in 1..=ROUNDS {
        let beats = world
            .hosts
            .iter()
            .map(|host| beat(state, host.id, host.epoch, round))
            .collect::<Vec<_>>();
        bytes = beats.iter().map(Vec::len).sum::<usize>() / beats.len().max(1);
        let each = u32::try_from(beats.len())?.max(1);
        let start = Instant::now();
        for beat in &beats {
            std::hint::black_box(AgentMessage::decode(&beat[..])?);
        }
        decoding.add(start.elapsed() / each);
        let start = Instant::now();
        for (host, beat) in world.hosts.iter().zip(&beats) {
            let answer = hosts.beat(state, host.id, &host.key, beat);
            std::hint::black_box(answer.context("a heartbeat was not taken")?);
        }
        whole.add(start.elapsed() / each);
    }
    let (decoded, each) = (decoding.percentile(50), whole.percentile(50));
    table.add(
        "a heartbeat with its host's guests, on the leader",
        time(each),
        &format!(
            "{bytes} B; decoding alone {}, {} times that",
            time(decoded),
            ratio(each, decoded)
        ),
        None,
    );
    let count = u32::try_from(world.hosts.len())?;
    let share = (each * count).as_nanos() * 1000 / HEARTBEAT.as_nanos();
    table.add(
        &format!("heartbeats of {count} hosts every {}", time(HEARTBEAT)),
        format!("{}.{} % of a core", share / 10, share % 10),
        "",
        None,
    );
    let loads = Samples::of(20, || Ok(hosts.loads()))?;
    table.add(
        "all hosts' loads, for a pass of the placer",
        loads.both(),
        "",
        None,
    );
    Ok(())
}

fn beat(state: &State, host: ObjectId, host_epoch: u64, sequence: u64) -> Vec<u8> {
    let guests = state.by_key(key::VM_HOST, &host.to_string(), None);
    let guests = guests.map(|vm| GuestLoad {
        vm_id: vm.id.as_bytes().to_vec(),
        cpu_used_ppm: 120_000,
        memory_used_mib: 2048,
        disk_read_bytes: 123_456_789,
        disk_write_bytes: 987_654_321,
    });
    let heartbeat = Heartbeat {
        session: 1,
        sequence,
        host_epoch,
        observed_hash: vec![7; 32],
        load: Some(Load {
            cpu_used_ppm: 310_000,
            memory_used_mib: 90_000,
            storage_used_mib: 900_000,
            storage_available_mib: 3_000_000,
            load1_milli: 12_000,
            guests: guests.collect(),
            uptime_s: 1_000_000,
            ..Load::default()
        }),
        sent_at_ms: 1_795_456_800_000,
        ..Heartbeat::default()
    };
    let body = Some(Body::Heartbeat(heartbeat));
    AgentMessage { body }.encode_to_vec()
}
