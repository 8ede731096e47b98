//! What breaks things: one fault at a time or several, each ending by itself.

use std::time::Duration;

use virtflow_raft::DiskFault;
use virtflow_types::chance;

use super::trace;
use super::world::World;

/// Which sorts of fault there are in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// None at all.
    None,
    /// All of them.
    All,
}

/// From the end of one fault's beginning to the next's.
const PAUSE_MS: std::ops::Range<u64> = 200..3000;

/// Something that ends.
type Ending = (Duration, Box<dyn FnOnce(&mut World)>);

#[derive(Default)]
pub(crate) struct Nemesis {
    next: Duration,
    endings: Vec<Ending>,
}

fn between(range: std::ops::Range<u64>) -> u64 {
    range.start + chance::number() % (range.end - range.start)
}

fn span(ms: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(between(ms))
}

fn pick(among: &[String]) -> String {
    let at = between(0..among.len().max(1) as u64);
    among[usize::try_from(at).unwrap_or(0)].clone()
}

/// Two parts of what is given, neither empty.
fn parts(of: &[String]) -> (Vec<String>, Vec<String>) {
    let mut shuffled = of.to_vec();
    chance::shuffle(&mut shuffled);
    let cut = usize::try_from(between(1..of.len() as u64)).unwrap_or(1);
    let other = shuffled.split_off(cut);
    (shuffled, other)
}

impl Nemesis {
    /// Ends what is to end, and begins something when its time has come.
    pub(crate) fn step(&mut self, world: &mut World, now: Duration) {
        let mut at = 0;
        while at < self.endings.len() {
            if self.endings[at].0 <= now {
                let (_, end) = self.endings.remove(at);
                end(world);
            } else {
                at += 1;
            }
        }
        if now < self.next {
            return;
        }
        self.next = now + span(PAUSE_MS);
        self.begin(world, now);
    }

    /// Ends everything now.
    pub(crate) fn end(&mut self, world: &mut World) {
        for (_, end) in self.endings.drain(..) {
            end(world);
        }
    }

    fn later(&mut self, at: Duration, end: impl FnOnce(&mut World) + 'static) {
        self.endings.push((at, Box::new(end)));
    }

    fn begin(&mut self, world: &mut World, now: Duration) {
        let controllers = world.controller_names();
        let hosts = world.host_names();
        let one = pick(&controllers);
        match between(0..27) {
            0 | 1 => {
                let leader = world.leader().unwrap_or(one);
                self.kill(world, now, leader, false);
            }
            2 => self.kill(world, now, one, false),
            3 => self.kill(world, now, one, true),
            4 => {
                trace::note("nemesis: power cut of all controllers");
                let back = now + span(200..3000);
                for name in controllers {
                    world.crash(&name, true);
                    self.later(back, move |world| world.start(&name));
                }
            }
            5 | 6 => {
                let (some, others) = parts(&controllers);
                trace::note(format!("nemesis: {some:?} and {others:?} are apart"));
                world.cut(&some, &others);
                self.later(now + span(500..8000), move |world| {
                    world.mend(&some, &others);
                });
            }
            7 => {
                let others: Vec<_> = controllers.iter().filter(|c| **c != one).cloned().collect();
                let one = vec![one];
                trace::note(format!("nemesis: {one:?} is not heard"));
                world.cut_one_way(&one, &others);
                self.later(now + span(500..6000), move |world| {
                    world.mend(&one, &others)
                });
            }
            8 => {
                let others: Vec<_> = controllers.iter().filter(|c| **c != one).cloned().collect();
                let one = vec![one];
                trace::note(format!("nemesis: {one:?} hears nothing"));
                world.cut_one_way(&others, &one);
                self.later(now + span(500..6000), move |world| {
                    world.mend(&one, &others)
                });
            }
            9 | 10 => {
                // Everything it sends and is sent arrives late, all at once.
                let everybody = world.everybody_but(&one);
                let leader = world.leader().unwrap_or(one);
                let everybody = match everybody.contains(&leader) {
                    true => world.everybody_but(&leader),
                    false => everybody,
                };
                let held = vec![leader];
                trace::note(format!("nemesis: {held:?} is held up"));
                world.hold(&held, &everybody);
                self.later(now + span(300..5000), move |world| {
                    world.release(&held, &everybody);
                });
            }
            11 => {
                trace::note(format!("nemesis: the disk of {one} is slow"));
                world.log_disk(&one, |disk| {
                    disk.flush_max = Duration::from_millis(400);
                });
                self.later(now + span(1000..8000), move |world| {
                    world.log_disk(&one, |disk| disk.flush_max = Duration::from_millis(3));
                });
            }
            12 => {
                let fault = match between(0..2) {
                    0 => DiskFault::Full,
                    _ => DiskFault::FlushFails,
                };
                trace::note(format!("nemesis: the disk of {one}: {fault:?}"));
                world.log_disk(&one, move |disk| disk.fault = Some(fault));
                self.later(now + span(1000..5000), move |world| {
                    world.log_disk(&one, |disk| disk.fault = None);
                });
            }
            13 => {
                trace::note(format!("nemesis: the shadow of {one} stands still"));
                world.shadow_disk(&one, |disk| disk.stands_still = true);
                self.later(now + span(1000..10_000), move |world| {
                    world.shadow_disk(&one, |disk| disk.stands_still = false);
                });
            }
            14 => {
                trace::note(format!("nemesis: the shadow of {one} fails"));
                world.shadow_disk(&one, |disk| disk.fails = true);
            }
            15 => {
                let offset_ms = match between(0..4) {
                    0 => 3_600_000,
                    1 => -3_600_000,
                    2 => 5_000,
                    _ => -700,
                };
                trace::note(format!(
                    "nemesis: the clock of {one} is off by {offset_ms} ms"
                ));
                super::clock::set_offset_ms(&one, offset_ms);
                self.later(now + span(1000..15_000), move |_| {
                    super::clock::set_offset_ms(&one, 0);
                });
            }
            16 => {
                let host = pick(&hosts);
                trace::note(format!("nemesis: the agent of {host} is killed"));
                world.crash(&host, false);
                if between(0..3) == 0 {
                    trace::note(format!("nemesis: the agent of {host} loses its file"));
                    world.forget(&host);
                }
                self.later(now + span(200..20_000), move |world| world.start(&host));
            }
            17 => {
                let host = pick(&hosts);
                trace::note(format!("nemesis: {host} reboots"));
                world.reboot(&host);
                self.later(now + span(500..8000), move |world| world.start(&host));
            }
            18 => {
                let host = vec![pick(&hosts)];
                trace::note(format!("nemesis: {host:?} is cut off"));
                let everybody = controllers;
                world.cut(&host, &everybody);
                self.later(now + span(1000..25_000), move |world| {
                    world.mend(&host, &everybody);
                });
            }
            19 | 20 => {
                let leader = world.leader().unwrap_or(one);
                self.pause(world, now, leader);
            }
            21 => self.pause(world, now, one),
            22 => self.pause(world, now, pick(&hosts)),
            23 | 24 => {
                let leader = world.leader().unwrap_or(one);
                trace::note(format!("nemesis: the connections of {leader} are reset"));
                world.reset_connections(&leader);
            }
            25 => {
                trace::note(format!("nemesis: the connections of {one} are reset"));
                world.reset_connections(&one);
            }
            _ => {
                let host = pick(&hosts);
                trace::note(format!("nemesis: the hypervisor of {host} misbehaves"));
                world.confuse_hypervisor(&host);
            }
        }
    }

    /// As SIGSTOP, and SIGCONT later: mostly for less than a lease, sometimes for several.
    fn pause(&mut self, world: &mut World, now: Duration, name: String) {
        let stands = match between(0..6) {
            0..3 => span(100..1000),
            3 | 4 => span(1000..6000),
            _ => span(6000..30_000),
        };
        trace::note(format!("nemesis: {name} stands still for {stands:?}"));
        world.pause(&name);
        self.later(now + stands, move |world| world.resume(&name));
    }

    fn kill(&mut self, world: &mut World, now: Duration, name: String, power: bool) {
        let how = if power { "loses power" } else { "is killed" };
        trace::note(format!("nemesis: {name} {how}"));
        world.crash(&name, power);
        self.later(now + span(100..6000), move |world| world.start(&name));
    }
}
