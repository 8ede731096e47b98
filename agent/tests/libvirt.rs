//! The libvirt layer against a real libvirtd and real QEMU guests.
//!
//! Needs a libvirtd that is nobody's: `VIRTFLOW_TEST_LIBVIRT=qemu+unix:///system?socket=…` names it,
//! and it must see the same `/tmp` (or `TMPDIR`) as the test. Run with `--ignored`; without the
//! variable the tests fail rather than pass without having looked.
//! With `VIRTFLOW_TEST_KERNEL` and `VIRTFLOW_TEST_INITRD` a kernel is booted and its console read.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::Receiver;
use virt::connect::Connect;
use virtflow_agent::desired::{Desired, DesiredVm, Power, RestartPolicy, Stamp, Tombstone};
use virtflow_agent::hypervisor::libvirt::Libvirt;
use virtflow_agent::hypervisor::{
    DomainChange, DomainEvent, Hypervisor, HypervisorError, OffReason, PowerState,
};
use virtflow_agent::inventory::ListedGpus;
use virtflow_agent::local::LocalStore;
use virtflow_agent::reconcile::Reconciler;
use virtflow_agent::reconcile::plan::{AccelerationChoice, GuestSettings};
use virtflow_agent::xml::{
    Acceleration, Boot, Disk, DiskFormat, DomainSpec, DomainStamp, Gpus, HostPath, KernelArguments,
    Machine, PciAddress, read_passed,
};
use virtflow_proto::agent::v1::{ObservedVm, Phase};
use virtflow_types::{Incarnation, Name, ObjectId};

const PATIENCE: Duration = Duration::from_secs(30);

fn uri() -> String {
    std::env::var("VIRTFLOW_TEST_LIBVIRT")
        .expect("VIRTFLOW_TEST_LIBVIRT must name a libvirtd that these tests may use")
}

/// Where that libvirtd keeps the pid files of its guests: beside its socket.
fn pid_files() -> PathBuf {
    let uri = uri();
    match uri.split_once("socket=") {
        Some((_, socket)) => Path::new(socket).parent().unwrap().join("qemu"),
        None => PathBuf::from("/run/libvirt/qemu"),
    }
}

struct Guest {
    folder: tempfile::TempDir,
    spec: DomainSpec,
}

impl Guest {
    /// A guest with an empty disk: its firmware finds nothing to boot and waits for ever.
    async fn new(libvirt: &dyn Hypervisor, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |file: &str| HostPath::new(&folder.path().join(file)).unwrap();
        let disk = std::fs::File::create(path("disk.raw").as_path()).unwrap();
        disk.set_len(64 << 20).unwrap();
        std::fs::File::create(path("console.log").as_path()).unwrap();
        let spec = DomainSpec {
            vm_id: ObjectId::generate(),
            vm_name: Name::new(name).unwrap(),
            stamp: DomainStamp {
                placement_epoch: 7,
                incarnation: Incarnation::generate(),
                index: 99,
            },
            acceleration: Acceleration::Qemu,
            machine: Machine::Q35,
            emulator: None,
            vcpus: 1,
            memory_mib: 128,
            boot: Boot::Disk,
            disks: vec![Disk {
                path: path("disk.raw"),
                format: DiskFormat::Raw,
            }],
            nics: Vec::new(),
            gpus: Gpus::default(),
            console: path("console.log"),
            unlabelled: !libvirt.capabilities().await.unwrap().security_labels,
        };
        Self { folder, spec }
    }

    fn qemu_pid(&self) -> Option<i32> {
        pid_by_mark(&format!("guest={}", self.spec.domain_name()))
    }

    fn kill_qemu(&self) {
        kill_by_mark(&format!("guest={}", self.spec.domain_name()));
    }
}

/// The process whose arguments hold this text, as this process sees it.
fn pid_by_mark(mark: &str) -> Option<i32> {
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let entry = entry.unwrap();
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&arguments)
            .contains(mark)
            .then_some(pid)
    })
}

async fn wait_for(events: &mut Receiver<DomainEvent>, id: ObjectId, change: DomainChange) {
    let wanted = async {
        loop {
            let event = events.recv().await.unwrap();
            if (event.domain_id, event.change) == (id, change) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wanted)
        .await
        .unwrap_or_else(|_| panic!("no {change:?} within {PATIENCE:?}"));
}

async fn power(libvirt: &dyn Hypervisor, id: ObjectId) -> Option<PowerState> {
    libvirt.inspect(id).await.unwrap().map(|d| d.power)
}

#[tokio::test]
#[ignore = "needs VIRTFLOW_TEST_LIBVIRT"]
async fn the_life_of_a_guest() {
    let libvirt: Arc<dyn Hypervisor> = Arc::new(Libvirt::new(&uri(), &pid_files()));
    let guest = Guest::new(&*libvirt, "life").await;
    let id = guest.spec.vm_id;
    let mut events = libvirt.events();
    libvirt.survey().await.unwrap();

    assert_eq!(libvirt.inspect(id).await.unwrap(), None);
    libvirt.define(&guest.spec).await.unwrap();
    wait_for(&mut events, id, DomainChange::Definition).await;
    assert_eq!(
        power(&*libvirt, id).await,
        Some(PowerState::Off(OffReason::Unknown))
    );

    let began = Instant::now();
    libvirt.start(id).await.unwrap();
    println!("start took {:?}", began.elapsed());
    wait_for(&mut events, id, DomainChange::Started).await;
    libvirt
        .start(id)
        .await
        .expect("starting what runs succeeds");

    let survey = libvirt.survey().await.unwrap();
    let (domain, usage) = survey.domains.iter().find(|(d, _)| d.vm_id == id).unwrap();
    assert_eq!(domain.power, PowerState::Running);
    assert_eq!(domain.stamp, guest.spec.stamp);
    assert_eq!((domain.vcpus, domain.memory_mib), (1, 128));
    assert_eq!(domain.vm_name.as_str(), "life");
    assert!(usage.cpu_time_ns > 0, "{usage:?}");
    assert!(usage.memory_rss_kib > 4096, "{usage:?}");
    let first_run = domain.run_id.expect("a running domain has a run id");

    guest.kill_qemu();
    let killed = Instant::now();
    wait_for(&mut events, id, DomainChange::Stopped).await;
    println!("the death of QEMU was seen after {:?}", killed.elapsed());
    assert_eq!(
        power(&*libvirt, id).await,
        Some(PowerState::Off(OffReason::Crashed))
    );

    libvirt.start(id).await.unwrap();
    let again = libvirt.inspect(id).await.unwrap().unwrap();
    assert_eq!(again.power, PowerState::Running);
    assert_ne!(again.run_id, Some(first_run));
    assert_eq!(
        again.process_id.map(|pid| pid > 1),
        Some(true),
        "libvirt's pid file is read"
    );

    libvirt.destroy(id).await.unwrap();
    assert_eq!(
        power(&*libvirt, id).await,
        Some(PowerState::Off(OffReason::Destroyed))
    );
    libvirt
        .destroy(id)
        .await
        .expect("destroying what is off succeeds");
    libvirt.undefine(id).await.unwrap();
    assert_eq!(libvirt.inspect(id).await.unwrap(), None);
    libvirt
        .undefine(id)
        .await
        .expect("undefining what is absent succeeds");
    let missing = libvirt.start(id).await.unwrap_err();
    assert!(
        matches!(missing, HypervisorError::NotFound(gone) if gone == id),
        "{missing}"
    );
    assert!(guest.qemu_pid().is_none());
    drop(guest.folder);
}

#[tokio::test]
#[ignore = "needs VIRTFLOW_TEST_LIBVIRT"]
async fn a_foreign_domain_is_counted_and_left_alone() {
    let libvirt: Arc<dyn Hypervisor> = Arc::new(Libvirt::new(&uri(), &pid_files()));
    let guest = Guest::new(&*libvirt, "foreign").await;
    let id = guest.spec.vm_id;
    let before = libvirt.survey().await.unwrap().foreign.len();

    let begin = guest.spec.to_xml(&[]).unwrap();
    let unmarked = begin.replace("xmlns/domain/1", "xmlns/domain/other");
    let connection = Connect::open(Some(&uri())).unwrap();
    let domain = connection.define_domain_xml(&unmarked).unwrap();

    let survey = libvirt.survey().await.unwrap();
    assert_eq!(survey.foreign.len(), before + 1);
    assert!(survey.foreign.iter().any(|(d, _)| d.domain_id == id));
    assert!(survey.domains.iter().all(|(d, _)| d.vm_id != id));
    for refused in [
        libvirt.define(&guest.spec).await,
        libvirt.start(id).await,
        libvirt.shutdown(id).await,
        libvirt.destroy(id).await,
        libvirt.undefine(id).await,
        libvirt.inspect(id).await.map(|_| ()),
    ] {
        let error = refused
            .expect_err("a foreign domain must be refused")
            .to_string();
        assert!(error.contains("not VirtFlow's"), "{error}");
    }
    assert!(connection.lookup_domain_by_uuid(id.uuid()).is_ok());
    domain.undefine().unwrap();
}

/// No machine of the tests has such devices: libvirt looks for them when a guest starts.
#[tokio::test]
#[ignore = "needs VIRTFLOW_TEST_LIBVIRT"]
async fn a_definition_has_gpus_that_no_other_has() {
    let libvirt: Arc<dyn Hypervisor> = Arc::new(Libvirt::new(&uri(), &pid_files()));
    let at = |text: &str| PciAddress::new(text).unwrap();
    let addresses = ["00fe:65:00.0", "00fe:66:00.0", "00fe:67:00.0"].map(at);
    let (mut guests, connection) = (Vec::new(), Connect::open(Some(&uri())).unwrap());
    for number in 0..3 {
        let mut guest = Guest::new(&*libvirt, &format!("gpu-{number}")).await;
        guest.spec.gpus = Gpus {
            count: 1,
            handed_out: addresses.to_vec(),
        };
        guests.push(guest);
    }
    let passed = |guest: &Guest| {
        let domain = connection.lookup_domain_by_uuid(guest.spec.vm_id.uuid());
        read_passed(&domain.unwrap().xml_desc(0).unwrap()).unwrap()
    };
    // Somebody else's definition has the lowest one.
    let foreign = Guest::new(&*libvirt, "gpu-foreign").await.spec;
    let theirs = foreign.to_xml(&addresses[..1]).unwrap();
    let theirs = theirs.replace("xmlns/domain/1", "xmlns/domain/other");
    let theirs = connection.define_domain_xml(&theirs).unwrap();
    let survey = libvirt.survey().await.unwrap();
    let (told, _) = survey
        .foreign
        .iter()
        .find(|(domain, _)| domain.domain_id == foreign.vm_id)
        .unwrap();
    assert_eq!(told.passed, addresses[..1]);

    // Two at once get one each, the third none.
    let (first, second) = tokio::join!(
        libvirt.define(&guests[0].spec),
        libvirt.define(&guests[1].spec)
    );
    first.unwrap();
    second.unwrap();
    let mut got = [passed(&guests[0]), passed(&guests[1])].concat();
    let kept = passed(&guests[1]);
    got.sort_unstable();
    assert_eq!(got, addresses[1..]);
    let error = libvirt.define(&guests[2].spec).await.unwrap_err();
    assert!(
        matches!(
            error,
            HypervisorError::TooFewGpus {
                asked: 1,
                free: 0,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(libvirt.inspect(guests[2].spec.vm_id).await.unwrap(), None);

    // One that is defined anew keeps its own, though a lower one is free by now.
    theirs.undefine().unwrap();
    libvirt.define(&guests[1].spec).await.unwrap();
    assert_eq!(passed(&guests[1]), kept);
    libvirt.define(&guests[2].spec).await.unwrap();
    assert_eq!(passed(&guests[2]), addresses[..1]);
    for guest in &guests {
        libvirt.undefine(guest.spec.vm_id).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs VIRTFLOW_TEST_LIBVIRT"]
async fn a_kernel_boots_and_writes_to_its_console() {
    let (Ok(kernel), Ok(initrd)) = (
        std::env::var("VIRTFLOW_TEST_KERNEL"),
        std::env::var("VIRTFLOW_TEST_INITRD"),
    ) else {
        panic!("VIRTFLOW_TEST_KERNEL and VIRTFLOW_TEST_INITRD must name what to boot");
    };
    let libvirt: Arc<dyn Hypervisor> = Arc::new(Libvirt::new(&uri(), &pid_files()));
    let mut guest = Guest::new(&*libvirt, "console").await;
    let id = guest.spec.vm_id;
    guest.spec.boot = Boot::Kernel {
        kernel: HostPath::new(Path::new(&kernel)).unwrap(),
        initrd: Some(HostPath::new(Path::new(&initrd)).unwrap()),
        arguments: KernelArguments::new("console=ttyS0 virtflow.vm=console").unwrap(),
    };
    libvirt.define(&guest.spec).await.unwrap();
    libvirt.start(id).await.unwrap();
    let until = Instant::now() + 3 * PATIENCE;
    loop {
        let console = std::fs::read(guest.spec.console.as_path()).unwrap();
        let text = String::from_utf8_lossy(&console);
        if text.contains("virtflow.vm=console") {
            break;
        }
        assert!(Instant::now() < until, "nothing on the console: {text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    libvirt.destroy(id).await.unwrap();
    libvirt.undefine(id).await.unwrap();
}

#[tokio::test]
async fn an_absent_libvirtd_is_said_to_be_unavailable() {
    let libvirt = Libvirt::new(
        "qemu+unix:///system?socket=/nonexistent/libvirt-sock",
        Path::new("/nonexistent"),
    );
    let error = libvirt.survey().await.unwrap_err();
    assert!(
        matches!(error, HypervisorError::Unavailable { .. }),
        "{error}"
    );
}

/// An agent's reconciler over real guests, in a folder of its own.
struct Host {
    folder: tempfile::TempDir,
    agent: Option<Reconciler>,
    index: u64,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut host = Self {
            folder,
            agent: None,
            index: 0,
        };
        host.start();
        host
    }

    fn start(&mut self) {
        let settings = GuestSettings {
            guests_dir: self.folder.path().join("guests"),
            acceleration: AccelerationChoice::Qemu,
            machine: Machine::Q35,
            emulator: None,
            kernel: None,
            bridge: None,
            gpus: ListedGpus::default(),
        };
        let libvirt = Arc::new(Libvirt::new(&uri(), &pid_files()));
        let store = LocalStore::open(self.folder.path());
        let agent = Reconciler::start(libvirt, store, settings, Arc::default());
        agent.set_session(true);
        self.agent = Some(agent);
    }

    async fn order(&mut self, vms: Vec<DesiredVm>, tombstones: Vec<Tombstone>) {
        self.index += 1;
        let order = Desired {
            stamp: Stamp {
                incarnation: Incarnation::from_u128(1),
                index: self.index,
            },
            complete: true,
            vms,
            tombstones,
        };
        self.agent.as_ref().unwrap().obey(&order).await.unwrap();
    }

    async fn until(
        &self,
        id: ObjectId,
        what: &str,
        holds: impl Fn(&ObservedVm) -> bool,
    ) -> ObservedVm {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = self.agent.as_ref().unwrap().observations().get(id);
            if let Some(seen) = seen.as_ref().filter(|seen| holds(seen)) {
                return seen.clone();
            }
            assert!(Instant::now() < until, "never {what}; last {seen:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn desired(name: &str) -> DesiredVm {
    DesiredVm {
        vm_id: ObjectId::generate(),
        placement_epoch: 1,
        generation: 1,
        name: Name::new(name).unwrap(),
        vcpus: 1,
        memory_mib: 128,
        storage_gib: 1,
        gpu_count: 0,
        power: Power::Running,
        power_serial: 1,
        reboot: false,
        force: false,
        grace_s: 1,
        restart: RestartPolicy::Always,
        nics: Vec::new(),
        adopted_domain: None,
    }
}

fn running(seen: &ObservedVm) -> bool {
    seen.phase() == Phase::Running && seen.carried_out
}

#[tokio::test]
#[ignore = "needs VIRTFLOW_TEST_LIBVIRT"]
async fn an_agent_adopts_real_guests_and_starts_again_what_died() {
    let mut host = Host::new();
    let vm = desired("adopted");
    let id = vm.vm_id;
    host.order(vec![vm.clone()], vec![]).await;
    let first = host.until(id, "running", running).await;
    assert!(first.pid > 1, "{first:?}");

    host.agent = None;
    host.start();
    let adopted = host.until(id, "adopted", running).await;
    assert_eq!(adopted.pid, first.pid, "no guest noticed");
    // Nor when it remembers nothing.
    host.agent = None;
    std::fs::remove_file(host.folder.path().join("state.json")).unwrap();
    host.start();
    host.order(vec![vm.clone()], vec![]).await;
    let adopted = host.until(id, "adopted", running).await;
    assert_eq!(adopted.pid, first.pid, "no guest noticed");

    let guest = format!("guest=adopted-{}", &id.uuid().simple().to_string()[20..]);
    let died = Instant::now();
    kill_by_mark(&guest);
    host.until(id, "seen", |s| {
        s.phase() == Phase::Restarting && s.reason == "guest_crashed"
    })
    .await;
    println!("the death was reported after {:?}", died.elapsed());
    assert!(died.elapsed() < Duration::from_secs(2));
    let again = host.until(id, "again", running).await;
    assert_eq!(again.restarts, 1);
    assert_ne!(again.pid, first.pid);

    let tombstone = Tombstone {
        vm_id: id,
        placement_epoch: 1,
        keep_files: false,
    };
    host.order(vec![], vec![tombstone]).await;
    let until = Instant::now() + PATIENCE;
    while !confirmed(&host, id) {
        assert!(Instant::now() < until, "never buried");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let libvirt = Libvirt::new(&uri(), &pid_files());
    assert_eq!(libvirt.inspect(id).await.unwrap(), None);
    assert!(
        !host
            .folder
            .path()
            .join("guests")
            .join(id.to_string())
            .exists()
    );
}

fn confirmed(host: &Host, id: ObjectId) -> bool {
    let report = host.agent.as_ref().unwrap().observations().report(None);
    report
        .unwrap()
        .confirmed
        .iter()
        .any(|t| t.vm_id == id.as_bytes())
}

fn kill_by_mark(mark: &str) {
    let pid = pid_by_mark(mark).expect("a QEMU");
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// How much later than libvirt itself the agent has a guest started. Printed; bounded loosely, for
/// the machine may be busy.
#[tokio::test]
#[ignore = "needs VIRTFLOW_TEST_LIBVIRT"]
async fn a_start_costs_little_more_than_libvirts_own() {
    const ROUNDS: usize = 7;
    let mut host = Host::new();
    let libvirt = Arc::new(Libvirt::new(&uri(), &pid_files()));
    let connection = Connect::open(Some(&uri())).unwrap();
    let mut events = libvirt.events();
    libvirt.survey().await.unwrap();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let guest = Guest::new(&*libvirt, &format!("bare-{round}")).await;
        let xml = guest.spec.to_xml(&[]).unwrap();
        let began = Instant::now();
        let domain = connection.create_domain_xml(&xml, 0).unwrap();
        wait_for(&mut events, guest.spec.vm_id, DomainChange::Started).await;
        bare.push(began.elapsed());
        domain.destroy().unwrap();

        let vm = desired(&format!("ours-{round}"));
        let id = vm.vm_id;
        let began = Instant::now();
        host.order(vec![vm], vec![]).await;
        wait_for(&mut events, id, DomainChange::Started).await;
        ours.push(began.elapsed());
        host.until(id, "running", running).await;
        let tombstone = Tombstone {
            vm_id: id,
            placement_epoch: 1,
            keep_files: false,
        };
        host.order(vec![], vec![tombstone]).await;
        while !confirmed(&host, id) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    bare.sort();
    ours.sort();
    let (bare, ours) = (bare[ROUNDS / 2], ours[ROUNDS / 2]);
    println!("median: createXML {bare:?}, order to started {ours:?}");
    assert!(
        ours < bare + Duration::from_millis(300),
        "{ours:?} against {bare:?}"
    );
}
