//! What reads cost, up to the bytes of their answer.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use virtflow_logic::{Cx, ListQuery, capacity, cluster_view, get, list, placement, public, usage};
use virtflow_model::Kind;
use virtflow_state::State;

use crate::figures::{Samples, Table, size};
use crate::world::{World, role};

/// Objects of a page.
const PAGE: usize = 100;
/// How often a read of one page is repeated, and a read of everything.
const PAGES: usize = 200;
const WHOLES: usize = 10;

pub(crate) fn measure(world: &World, state: &State, table: &mut Table) -> Result<()> {
    let admin = world.cx(world.admin);
    let user = world.cx(*world.users.first().context("there is no user")?);
    let vm = state.of_kind(Kind::VirtualMachine.name(), None).next();
    let vm = vm.context("there is no VM")?;
    let host = world
        .hosts
        .first()
        .context("there is no host")?
        .id
        .to_string();
    let id = vm.id.to_string();
    let name = vm.name.as_str().to_owned();
    let one = |cx: &Cx, target: &str| {
        let object = get(state, cx, Kind::VirtualMachine, target, None)?;
        bytes(&public(state, &object))
    };
    table.read(
        "get a VM by id",
        &Samples::of(PAGES, || one(&admin, &id))?,
        "",
    );
    table.read(
        "get a VM by name",
        &Samples::of(PAGES, || one(&admin, &name))?,
        "",
    );
    let vms = || ListQuery {
        limit: PAGE,
        ..ListQuery::of(Kind::VirtualMachine)
    };
    let some = |text: &str| Some(text.to_owned());
    let lists: Vec<(&str, &Cx, ListQuery)> = vec![
        ("list 100 VMs, by an operator", &admin, vms()),
        ("list 100 VMs, by a tenant's user", &user, vms()),
        (
            "list a host's VMs",
            &admin,
            ListQuery {
                host: Some(host),
                ..vms()
            },
        ),
        (
            "list 100 VMs that run",
            &admin,
            ListQuery {
                phase: some("running"),
                ..vms()
            },
        ),
        (
            "list 100 VMs with a label that one in 20 has",
            &admin,
            ListQuery {
                label: Some(format!("role={}", role(7))),
                ..vms()
            },
        ),
        (
            "list 100 VMs of a tenant",
            &admin,
            ListQuery {
                tenant: some("tenant-0"),
                ..vms()
            },
        ),
        (
            "list a tenant's VMs in error (none)",
            &admin,
            ListQuery {
                tenant: some("tenant-0"),
                phase: some("error"),
                ..vms()
            },
        ),
        (
            "list a group's VMs in error (none)",
            &admin,
            ListQuery {
                group: some("g1"),
                phase: some("error"),
                ..vms()
            },
        ),
        (
            "list 100 VMs of a group",
            &admin,
            ListQuery {
                group: some("g1"),
                ..vms()
            },
        ),
        (
            "list 100 hosts of a group",
            &admin,
            ListQuery {
                kind: Kind::Baremetal,
                group: some("g1"),
                ..vms()
            },
        ),
        (
            "list 100 offline hosts (none)",
            &admin,
            ListQuery {
                kind: Kind::Baremetal,
                state: some("offline"),
                ..vms()
            },
        ),
    ];
    for (what, cx, query) in &lists {
        let mut told = 0;
        let samples = Samples::of(PAGES, || {
            let page = list(state, cx, query)?;
            told = page.objects.len();
            bytes(&Value::Array(page.objects))
        })?;
        let empty = what.ends_with("(none)");
        ensure!(empty == (told == 0), "{what}: {told} objects");
        table.read(what, &samples, &format!("{told} objects"));
    }
    let waiting = state
        .by_key(virtflow_model::key::VM_PHASE, "pending", None)
        .next();
    let waiting = waiting.context("no VM waits")?.id.to_string();
    let wholes: [(&str, &dyn Fn() -> Result<usize>); 4] = [
        ("a tenant's usage", &|| {
            bytes(&usage(state, &user, "tenant-0")?)
        }),
        ("cluster view", &|| bytes(&cluster_view(state, &admin)?)),
        ("capacity of all hosts", &|| {
            bytes(&capacity(state, &admin)?)
        }),
        ("why a VM has no host", &|| {
            bytes(&placement(state, &admin, &waiting, None)?)
        }),
    ];
    for (what, read) in wholes {
        let mut length = 0;
        let samples = Samples::of(WHOLES, || {
            length = read()?;
            Ok(())
        })?;
        table.read(what, &samples, &size(length as u64));
    }
    Ok(())
}

/// As an answer is written.
fn bytes(value: &Value) -> Result<usize> {
    Ok(serde_json::to_vec(value)?.len())
}
