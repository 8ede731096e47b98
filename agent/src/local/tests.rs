use super::*;
use crate::desired::{Power, RestartPolicy};
use virtflow_types::Name;

const FIRST: Incarnation = Incarnation::from_u128(1);
const SECOND: Incarnation = Incarnation::from_u128(2);

fn vm(number: u128, epoch: u64) -> DesiredVm {
    DesiredVm {
        vm_id: ObjectId::from_u128(number),
        placement_epoch: epoch,
        generation: 1,
        name: Name::new("web-1").unwrap(),
        vcpus: 1,
        memory_mib: 128,
        storage_gib: 1,
        gpu_count: 0,
        power: Power::Running,
        power_serial: 1,
        reboot: false,
        force: false,
        grace_s: 5,
        restart: RestartPolicy::Never,
        nics: Vec::new(),
        adopted_domain: None,
    }
}

fn order(incarnation: Incarnation, index: u64, complete: bool, vms: Vec<DesiredVm>) -> Desired {
    Desired {
        stamp: Stamp { incarnation, index },
        complete,
        vms,
        tombstones: Vec::new(),
    }
}

fn bury(mut order: Desired, number: u128, placement_epoch: u64) -> Desired {
    order.tombstones.push(Tombstone {
        vm_id: ObjectId::from_u128(number),
        placement_epoch,
        keep_files: false,
    });
    order
}

#[test]
fn older_orders_and_former_lives_are_refused() {
    let mut state = LocalState::default();
    state
        .accept(&order(FIRST, 10, true, vec![vm(1, 1)]))
        .unwrap();
    state
        .accept(&order(FIRST, 10, false, vec![vm(2, 1)]))
        .unwrap();
    let before = state.clone();
    assert_eq!(
        state.accept(&order(FIRST, 9, true, vec![])),
        Err(Refused::Older { told: 9, known: 10 })
    );
    assert_eq!(state, before, "a refused order changes nothing");

    // A restore from a backup: another life, its indexes begin wherever the backup was.
    state
        .accept(&order(SECOND, 3, true, vec![vm(1, 1)]))
        .unwrap();
    assert_eq!(
        state.accept(&order(FIRST, 1000, true, vec![])),
        Err(Refused::Retired(FIRST))
    );
    state.accept(&order(SECOND, 4, true, vec![])).unwrap();
}

#[test]
fn only_a_complete_list_forgets_and_it_buries_nothing() {
    let mut state = LocalState::default();
    state
        .accept(&order(FIRST, 1, true, vec![vm(1, 1), vm(2, 1)]))
        .unwrap();
    state
        .accept(&order(FIRST, 2, false, vec![vm(3, 1)]))
        .unwrap();
    assert_eq!(state.vms.len(), 3);
    state
        .accept(&order(FIRST, 3, true, vec![vm(3, 1)]))
        .unwrap();
    assert_eq!(
        state.vms.keys().copied().collect::<Vec<_>>(),
        [ObjectId::from_u128(3)]
    );
    assert!(state.tombstones.is_empty());
}

#[test]
fn a_tombstone_ends_its_own_binding_and_earlier_ones() {
    let mut state = LocalState::default();
    state
        .accept(&order(FIRST, 1, true, vec![vm(1, 5)]))
        .unwrap();
    // Late word of an earlier binding: the present one stays wanted.
    state
        .accept(&bury(order(FIRST, 2, false, vec![]), 1, 4))
        .unwrap();
    assert!(state.vms.contains_key(&ObjectId::from_u128(1)));
    state
        .accept(&bury(order(FIRST, 3, false, vec![]), 1, 5))
        .unwrap();
    assert!(state.vms.is_empty());
    assert_eq!(state.tombstones[&ObjectId::from_u128(1)].placement_epoch, 5);
}

#[test]
fn a_confirmed_tombstone_is_not_dug_up_until_the_controller_drops_it() {
    let id = ObjectId::from_u128(1);
    let mut state = LocalState::default();
    state
        .accept(&bury(order(FIRST, 1, true, vec![]), 1, 5))
        .unwrap();
    let done = state.tombstones.remove(&id).unwrap();
    state.confirmed.insert(id, done);
    state
        .accept(&bury(order(FIRST, 2, true, vec![]), 1, 5))
        .unwrap();
    assert!(state.tombstones.is_empty());
    assert!(state.confirmed.contains_key(&id));
    state
        .accept(&bury(order(FIRST, 3, true, vec![]), 1, 6))
        .unwrap();
    assert!(
        state.tombstones.contains_key(&id),
        "a later binding is another matter"
    );
    state.accept(&order(FIRST, 4, true, vec![])).unwrap();
    assert!(state.confirmed.is_empty());
}

#[test]
fn progress_lasts_as_long_as_the_binding() {
    let id = ObjectId::from_u128(1);
    let mut state = LocalState::default();
    state
        .accept(&order(FIRST, 1, true, vec![vm(1, 1)]))
        .unwrap();
    state.vms.get_mut(&id).unwrap().progress.done_serial = Some(1);
    state
        .accept(&order(FIRST, 2, true, vec![vm(1, 1)]))
        .unwrap();
    assert_eq!(state.vms[&id].progress.done_serial, Some(1));
    state
        .accept(&order(FIRST, 3, true, vec![vm(1, 2)]))
        .unwrap();
    assert_eq!(state.vms[&id].progress.done_serial, None);
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path());
    for index in 1..=20 {
        let order = order(FIRST, index, false, vec![vm(u128::from(index), 1)]);
        store
            .commit(|state| state.accept(&order))
            .await
            .unwrap()
            .unwrap();
        // Never closed: what another process would find is what is on disk now.
        let found = LocalStore::open(folder.path());
        assert_eq!(found.read(|s| s.clone()), store.read(|s| s.clone()));
        assert_eq!(found.read(|s| s.highest).unwrap().index, index);
    }
}

#[tokio::test]
async fn commits_side_by_side_are_all_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path());
    let mut commits = tokio::task::JoinSet::new();
    for number in 1..=100_u128 {
        let store = Arc::clone(&store);
        commits.spawn(async move {
            let id = ObjectId::from_u128(number);
            let tombstone = Tombstone {
                vm_id: id,
                placement_epoch: 1,
                keep_files: false,
            };
            store
                .commit(|s| s.tombstones.insert(id, tombstone))
                .await
                .unwrap();
            assert!(LocalStore::open(&folder_of(&store)).read(|s| s.tombstones.contains_key(&id)));
        });
    }
    while let Some(done) = commits.join_next().await {
        done.unwrap();
    }
}

fn folder_of(store: &LocalStore) -> PathBuf {
    store.path.parent().unwrap().to_owned()
}

#[tokio::test]
async fn a_damaged_file_starts_anew_and_is_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    for garbage in [&b""[..], b"{}", b"\0\0\0\0", b"{\"format\":1"] {
        std::fs::write(&path, garbage).unwrap();
        let store = LocalStore::open(folder.path());
        assert_eq!(store.read(|s| s.highest), None);
        let kept = std::fs::read(folder.path().join("state.json.damaged")).unwrap();
        assert_eq!(kept, garbage);
        store
            .commit(|s| s.accept(&order(FIRST, 1, true, vec![])))
            .await
            .unwrap()
            .unwrap();
        assert!(
            LocalStore::open(folder.path())
                .read(|s| s.highest)
                .is_some()
        );
    }
    // Well-formed, but of a format that this program doesn't know.
    file::write(
        &path,
        br#"{"format":2,"highest":null,"retired":[],"vms":{},"tombstones":{},"confirmed":{}}"#,
    )
    .unwrap();
    assert_eq!(LocalStore::open(folder.path()).read(|s| s.highest), None);
}

#[tokio::test]
async fn a_full_disk_is_told_and_not_acted_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path());
    // A folder where the temporary file should be makes every write fail, for root too.
    std::fs::create_dir(folder.path().join("state.json.new")).unwrap();
    let order = order(FIRST, 1, true, vec![vm(1, 1)]);
    assert!(store.commit(|s| s.accept(&order)).await.is_err());
    std::fs::remove_dir(folder.path().join("state.json.new")).unwrap();
    store.commit(|_| ()).await.unwrap();
    assert_eq!(
        LocalStore::open(folder.path())
            .read(|s| s.highest)
            .unwrap()
            .index,
        1
    );
}
