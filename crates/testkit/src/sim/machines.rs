//! What is done to machines: they are switched on and off, stand still, are cut off, and have sick disks.

use std::time::Duration;

use virtflow_agent::hypervisor::simulated::{Call, Fault};
use virtflow_pki::net::simulated::Request;
use virtflow_raft::DiskBehaviour;
use virtflow_types::chance;

use super::controller::{Machine, lock};
use super::host::Host;
use super::kernel::{self, Line};
use super::process::{Life, Process, Program};
use super::shadow::Behaviour;
use super::world::World;
use super::{skew, trace};

/// A process that is stopped has had fewer rounds of its turn than that.
const STOP_ROUNDS: u64 = 12;

impl World {
    pub(crate) fn controller_names(&self) -> Vec<String> {
        self.controllers.iter().map(|m| m.name.clone()).collect()
    }
    pub(crate) fn host_names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.name.clone()).collect()
    }
    pub(crate) fn everybody_but(&self, one: &str) -> Vec<String> {
        let mut all = self.controller_names();
        all.extend(self.host_names());
        all.retain(|name| name != one);
        all
    }
    pub(crate) fn controller(&self, name: &str) -> Option<&Machine> {
        self.controllers.iter().find(|m| m.name == name)
    }
    pub(crate) fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// Whoever says that it leads.
    pub(crate) fn leader(&self) -> Option<String> {
        let leads = |m: &&Machine| lock(&m.app).as_ref().is_some_and(|app| app.leads());
        self.controllers.iter().find(leads).map(|m| m.name.clone())
    }

    /// The process dies; with `power` the machine does.
    pub(crate) fn crash(&mut self, name: &str, power: bool) {
        if let Some(program) = self.program(name) {
            program.process = None;
            if power {
                *lock(&program.line) = None;
                self.sim.crash(name);
            }
        }
        self.down.insert(name.to_owned());
        self.restarts.retain(|(_, other)| other != name);
        if let Some(machine) = self.controller(name) {
            *lock(&machine.app) = None;
            *lock(&machine.stopped) = None;
            if power {
                machine.log.power_cut();
                machine.shadow.power_cut();
            } else {
                machine.log.process_died();
                machine.shadow.process_died();
            }
        }
    }

    /// A removed controller's machine is made as new.
    pub(crate) fn wipe(&mut self) {
        let wipes = std::mem::take(&mut *lock(&self.wipes));
        for name in wipes {
            trace::note(format!("{name} is wiped"));
            self.crash(&name, true);
            if let Some(machine) = self.controller(&name) {
                skew::is_made_new(&name);
                machine.log.wipe();
                machine.shadow.wipe();
                if let Err(error) = std::fs::remove_dir_all(&machine.folder)
                    .and_then(|()| std::fs::create_dir_all(&machine.folder))
                {
                    panic!("wiping {}: {error}", machine.folder.display());
                }
            }
            self.start(&name);
        }
    }

    pub(crate) fn start(&mut self, name: &str) {
        if self.down.remove(name) {
            trace::note(format!("{name} starts"));
            self.begin(name);
        }
    }

    /// A new life of a program; its machine is switched on if it is off.
    pub(crate) fn begin(&mut self, name: &str) {
        if !self.sim.is_host_running(name) {
            self.sim.bounce(name);
        }
        if self.controller(name).is_some() {
            skew::starts(name);
        }
        if let Some(program) = self.program(name) {
            let life = (program.begin)();
            program.process = Some(Process::start(name, program.line.clone(), life));
        }
    }

    fn program(&mut self, name: &str) -> Option<&mut Program> {
        self.programs.iter_mut().find(|p| p.name == name)
    }

    /// What runs there stands still, in the midst of something.
    pub(crate) fn pause(&mut self, name: &str) {
        let rounds = chance::number() % STOP_ROUNDS;
        let program = self.program(name);
        if let Some(process) = program.and_then(|program| program.process.as_mut()) {
            process.stop(rounds);
        }
    }

    /// And goes on.
    pub(crate) fn resume(&mut self, name: &str) {
        let program = self.program(name);
        let process = program.and_then(|program| program.process.as_mut());
        if let Some(stood) = process.and_then(Process::go_on) {
            trace::note(format!("{name} goes on after {stood:?}"));
        }
    }

    /// Adds a machine and starts what runs on it.
    pub(crate) fn add(&mut self, name: &str, begin: impl Fn() -> Life + 'static) {
        let line = Line::default();
        let of_kernel = line.clone();
        self.sim.host(name, move || {
            let line = of_kernel.clone();
            async move {
                kernel::run(line).await;
                Ok(())
            }
        });
        self.programs.push(Program {
            name: name.to_owned(),
            line,
            begin: Box::new(begin),
            process: None,
        });
        self.begin(name);
    }

    /// An agent's own file is gone: it begins as if it had never been told anything.
    pub(crate) fn forget(&self, name: &str) {
        if let Some(host) = self.host(name) {
            // There is none before its first order.
            drop(std::fs::remove_file(host.folder.join("data/state.json")));
        }
    }

    pub(crate) fn reboot(&mut self, name: &str) {
        self.crash(name, true);
        if let Some(host) = self.host(name) {
            host.guests.reboot();
            host.machine.reboot();
        }
    }

    fn pairs(&self, a: &[String], b: &[String], f: impl Fn(&turmoil::Sim<'static>, &str, &str)) {
        for one in a {
            for other in b {
                f(&self.sim, one, other);
            }
        }
    }
    pub(crate) fn cut(&self, a: &[String], b: &[String]) {
        self.pairs(a, b, |sim, a, b| sim.partition(a, b));
    }
    pub(crate) fn cut_one_way(&self, from: &[String], to: &[String]) {
        self.pairs(from, to, |sim, from, to| sim.partition_oneway(from, to));
    }
    pub(crate) fn mend(&self, a: &[String], b: &[String]) {
        self.pairs(a, b, |sim, a, b| sim.repair(a, b));
    }
    /// Every connection of a machine ends, whatever is under way in it; new ones are made as before.
    pub(crate) fn reset_connections(&mut self, name: &str) {
        if let Some(program) = self.program(name)
            && let Some(kernel) = lock(&program.line).as_ref()
        {
            drop(kernel.send(Request::Reset));
        }
    }
    pub(crate) fn hold(&self, a: &[String], b: &[String]) {
        self.pairs(a, b, |sim, a, b| sim.hold(a, b));
    }
    pub(crate) fn release(&self, a: &[String], b: &[String]) {
        self.pairs(a, b, |sim, a, b| sim.release(a, b));
    }

    pub(crate) fn log_disk(&self, name: &str, change: impl FnOnce(&mut DiskBehaviour)) {
        if let Some(machine) = self.controller(name) {
            machine.log.behave(change);
        }
    }
    pub(crate) fn shadow_disk(&self, name: &str, change: impl FnOnce(&mut Behaviour)) {
        if let Some(machine) = self.controller(name) {
            machine.shadow.behave(change);
        }
    }

    /// Some calls fail or hang, or a guest dies.
    pub(crate) fn confuse_hypervisor(&self, name: &str) {
        let Some(host) = self.host(name) else { return };
        let domains = host.guests.domains();
        if let Some(domain) = domains.first()
            && chance::number().is_multiple_of(2)
        {
            host.guests.kill_guest(domain.vm_id);
        }
        let calls = [
            Call::Define,
            Call::Start,
            Call::Destroy,
            Call::Undefine,
            Call::Survey,
        ];
        for call in calls {
            let fault = match chance::number() % 5 {
                0 => Fault::Error,
                1 => Fault::ErrorAfterwards,
                2 => Fault::Slow(Duration::from_secs(3)),
                3 => Fault::Hang,
                _ => continue,
            };
            host.guests.inject(call, fault);
        }
    }
}
