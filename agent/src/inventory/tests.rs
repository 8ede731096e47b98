//! What the agent tells against what the machine's own tools and tables tell.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::identity::serial_number_from;
use super::storage::mounts;
use super::*;
use crate::reconcile::plan::AccelerationChoice;
use crate::xml::Machine;

fn guests(folder: &Path) -> GuestSettings {
    GuestSettings {
        guests_dir: folder.to_owned(),
        acceleration: AccelerationChoice::Auto,
        machine: Machine::Q35,
        emulator: None,
        kernel: None,
        bridge: None,
        gpus: ListedGpus::default(),
    }
}

fn here() -> v1::Inventory {
    let folder = tempfile::tempdir().unwrap();
    collect(
        &guests(folder.path()),
        Amounts::default(),
        Amounts::default(),
        None,
    )
    .unwrap()
}

fn output(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{command} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn processors_agree_with_proc() {
    let inventory = here();
    let text = fs::read_to_string("/proc/cpuinfo").unwrap();
    let processors = text.lines().filter(|l| l.starts_with("processor")).count();
    assert_eq!(inventory.threads as usize, processors);
    assert!(inventory.cores >= 1 && inventory.cores <= inventory.threads);
    assert!(inventory.sockets >= 1 && inventory.sockets <= inventory.cores);
    assert!(
        text.contains(&inventory.cpu_model),
        "{}",
        inventory.cpu_model
    );
    let in_nodes: usize = inventory.numa.iter().map(|node| node.cpus.len()).sum();
    if !inventory.numa.is_empty() {
        assert_eq!(in_nodes, processors);
    }
}

#[test]
fn memory_agrees_with_proc() {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let kib: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap();
    let inventory = here();
    assert_eq!(inventory.memory_mib, kib / 1024);
    for node in &inventory.numa {
        assert!(node.memory_mib > 0 && node.memory_mib <= inventory.memory_mib);
    }
}

#[test]
fn the_guests_filesystem_agrees_with_df() {
    let folder = tempfile::tempdir().unwrap();
    // The folder is made with the first guest: its parent tells.
    let not_yet = folder.path().join("a/b/guests");
    let inventory = collect(
        &guests(&not_yet),
        Amounts::default(),
        Amounts::default(),
        None,
    )
    .unwrap();
    let holders: Vec<_> = inventory
        .filesystems
        .iter()
        .filter(|f| f.holds_guests)
        .collect();
    assert_eq!(holders.len(), 1, "{:?}", inventory.filesystems);
    let path = folder.path().to_str().unwrap();
    let df = output(
        "df",
        &["--block-size=1M", "--output=target,size,fstype", path],
    );
    let line: Vec<_> = df.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(holders[0].mount, line[0]);
    // df rounds up.
    assert!(holders[0].total_mib.abs_diff(line[1].parse().unwrap()) <= 1);
    assert_eq!(holders[0].fstype, line[2]);
}

#[test]
fn network_cards_agree_with_the_namespace() {
    let here = here();
    let names: Vec<_> = here.nics.iter().map(|nic| nic.name.as_str()).collect();
    let mut listed: Vec<_> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lo")
        .collect();
    listed.sort();
    assert_eq!(names, listed);
}

#[test]
fn kernel_and_name_agree_with_uname() {
    assert_eq!(here().kernel, output("uname", &["-r"]).trim());
    assert_eq!(hostname(), output("uname", &["-n"]).trim());
    assert_eq!(boot_id().unwrap().len(), 36);
}

#[test]
fn capacity_caps_and_reserve_is_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let with =
        |capacity, reserve| collect(&guests(folder.path()), capacity, reserve, None).unwrap();
    let all = with(Amounts::default(), Amounts::default());
    assert_eq!(all.schedulable_cpu_milli, u64::from(all.threads) * 1000);
    assert_eq!(
        all.schedulable_memory_mib,
        all.memory_mib - RESERVE_MEMORY_MIB_DEFAULT
    );

    let amounts = |cpu_milli, memory_mib, storage_gib| Amounts {
        cpu_milli: Some(cpu_milli),
        memory_mib: Some(memory_mib),
        storage_gib: Some(storage_gib),
        gpus: None,
    };
    let part = with(amounts(700, 600, 3), amounts(200, 100, 1));
    let schedulable = |i: &v1::Inventory| {
        [
            i.schedulable_cpu_milli,
            i.schedulable_memory_mib,
            i.schedulable_storage_gib,
        ]
    };
    assert_eq!(schedulable(&part), [500, 500, 2]);
    assert_eq!(
        part.memory_mib, all.memory_mib,
        "what the machine has is told as it is"
    );
    let none = with(amounts(700, 600, 3), amounts(u64::MAX, u64::MAX, u64::MAX));
    assert_eq!(schedulable(&none), [0, 0, 0]);
}

#[test]
fn a_machine_with_simulated_guests_is_as_large_as_it_is_told_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let with = |driver: &str| {
        let can = Capabilities {
            driver: driver.to_owned(),
            driver_version: String::new(),
            emulator_version: String::new(),
            kvm: false,
            emulation: true,
            security_labels: false,
        };
        let capacity = Amounts {
            cpu_milli: Some(9_000_500),
            memory_mib: Some(1 << 40),
            storage_gib: Some(1 << 40),
            gpus: Some(2),
        };
        collect(
            &guests(folder.path()),
            capacity,
            Amounts::default(),
            Some(&can),
        )
        .unwrap()
    };
    let told = with("simulated");
    assert_eq!(told.schedulable_cpu_milli, 9_000_500);
    assert_eq!((told.threads, told.memory_mib), (9_001, 1 << 40));
    let lent = (1 << 40) - RESERVE_MEMORY_MIB_DEFAULT;
    assert_eq!(told.schedulable_memory_mib, lent);
    assert_eq!(told.schedulable_gpus, 2);
    let real = with("libvirt");
    assert_eq!(real.schedulable_gpus, 0, "none is listed");
    assert_eq!(real.threads, here().threads);
    assert_eq!(real.schedulable_cpu_milli, u64::from(real.threads) * 1000);
}

#[test]
fn a_serial_number_is_the_configured_the_firmwares_or_a_stable_one() {
    let folder = tempfile::tempdir().unwrap();
    let dmi = folder.path().join("dmi");
    let machine_id = folder.path().join("machine-id");
    let get = |configured| serial_number_from(configured, &dmi, &machine_id);
    assert!(get(None).is_err());

    let id = "3d1219c7c4c5404aaa1f6d2a48adfda4";
    fs::write(&machine_id, [id, "\n"].concat()).unwrap();
    let derived = get(None).unwrap();
    assert_eq!(derived.source, SerialSource::MachineId);
    assert!(
        derived.text.starts_with("mid-") && derived.text.len() == 28,
        "{derived:?}"
    );
    assert!(
        !derived.text.contains(&id[..8]),
        "the machine id is not told"
    );
    assert_eq!(get(None).unwrap(), derived);

    fs::create_dir(&dmi).unwrap();
    for nothing in [
        "",
        "None\n",
        "To Be Filled By O.E.M.",
        "0000000000",
        "Default string",
        "a\tb\u{7}",
    ] {
        fs::write(dmi.join("product_serial"), nothing).unwrap();
        assert_eq!(
            get(None).unwrap().source,
            SerialSource::MachineId,
            "{nothing:?}"
        );
    }
    fs::write(dmi.join("product_serial"), "CZ3 1234 \n").unwrap();
    let dmi_serial = get(None).unwrap();
    assert_eq!(
        (dmi_serial.text.as_str(), dmi_serial.source),
        ("CZ3 1234", SerialSource::Dmi)
    );
    let configured = get(Some("rack-7-unit-3")).unwrap();
    assert_eq!(configured.source, SerialSource::Configured);
    assert_eq!(configured.text, "rack-7-unit-3");
}

#[test]
fn sets_of_numbers_as_the_kernel_writes_them() {
    use super::machine::number_list;
    assert_eq!(
        number_list("0-3,8,10-11\n"),
        Some(vec![0, 1, 2, 3, 8, 10, 11])
    );
    assert_eq!(number_list("0"), Some(vec![0]));
    for bad in ["", "\n", "a", "3-1", "0-4294967295", "-1"] {
        assert_eq!(number_list(bad), None, "{bad:?}");
    }
}

#[test]
fn mounts_are_read_with_their_escapes() {
    let table = "36 35 98:0 / /mnt/a\\040b rw,noatime shared:1 - ext4 /dev/sda1 rw\n\
                 nonsense\n\
                 40 35 0:3 / /proc rw - proc proc rw\n";
    let found: Vec<_> = mounts(table)
        .into_iter()
        .map(|m| (m.point.to_str().unwrap().to_owned(), m.fstype, m.source))
        .collect();
    assert_eq!(
        found[0],
        ("/mnt/a b".into(), "ext4".into(), "/dev/sda1".into())
    );
    assert_eq!(found.len(), 2);
}

#[test]
fn load_is_of_the_time_between_two_measurements() {
    let folder = tempfile::tempdir().unwrap();
    let mut meter = LoadMeter::new(folder.path());
    // One thread busy for half a second: at least some of one processor was used.
    let until = tokio::time::Instant::now() + std::time::Duration::from_millis(500);
    let mut spins = 0_u64;
    while tokio::time::Instant::now() < until {
        spins = std::hint::black_box(spins + 1);
    }
    let load = meter.measure(None);
    let processors = here().threads;
    assert!(
        load.cpu_used_ppm >= 300_000 / processors,
        "{load:?} after {spins} spins"
    );
    assert!(load.cpu_used_ppm <= 1_000_000, "{load:?}");
    assert!(load.memory_used_mib > 0 && load.memory_used_mib < here().memory_mib);
    assert!(load.storage_available_mib > 0 && load.uptime_s > 0);
}

#[test]
fn gpus_are_handed_out_that_are_listed_and_there() {
    let devices = Devices::new();
    devices.put("0000:65:00.0", "0x030000", Some(1), None);
    devices.put("0000:66:00.0", "0x030000", Some(2), None);
    let folder = tempfile::tempdir().unwrap();
    let guests = GuestSettings {
        gpus: devices.list(&["0000:66:00.0", "0000:67:00.0"]),
        ..guests(folder.path())
    };
    let none = Amounts::default();
    let told = collect(&guests, none, none, None).unwrap();
    assert_eq!(told.schedulable_gpus, 1);
}
