//! Files that hold keys: who may read them, and what is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use tempfile::tempdir;
use virtflow_pki::{IdentityFolder, KeyPair, PkiError, Role, SEAL_CREDENTIAL, SealKey};

use crate::support::{Cluster, now_ms};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_seal_key_file_is_private_and_read_back() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("seal.key");
    let made = SealKey::create_file(&path).unwrap();
    assert_eq!((mode(&path), fs::read(&path).unwrap().len()), (0o600, 32));
    assert_eq!(SealKey::load(&path, None).unwrap().key_id(), made.key_id());
    let others: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(others.len(), 1, "nothing is left beside it");
}

#[test]
fn an_existing_seal_key_is_never_replaced() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("seal.key");
    let made = SealKey::create_file(&path).unwrap();
    let again = SealKey::create_file(&path);
    assert!(
        matches!(again, Err(PkiError::AlreadyExists { .. })),
        "{again:?}"
    );
    assert_eq!(SealKey::load(&path, None).unwrap().key_id(), made.key_id());
}

#[test]
fn a_seal_key_that_others_can_read_is_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("seal.key");
    SealKey::create_file(&path).unwrap();
    for good in [0o600, 0o400] {
        set_mode(&path, good);
        assert!(SealKey::load(&path, None).is_ok(), "{good:o}");
    }
    for open in [
        0o640, 0o604, 0o620, 0o602, 0o660, 0o644, 0o666, 0o700, 0o610, 0o4600,
    ] {
        set_mode(&path, open);
        let error = SealKey::load(&path, None).unwrap_err();
        assert!(
            matches!(error, PkiError::FileMode { mode, .. } if mode == open),
            "{open:o}"
        );
        let text = format!(
            "{} is open to other users (mode {open:04o}); run `chmod 600` on it, and replace the \
             key if others could have read it",
            path.display()
        );
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_seal_key_of_another_user_is_refused() {
    // Only root can make such a file; continuous integration runs as root.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempdir().unwrap();
    let path = folder.path().join("seal.key");
    SealKey::create_file(&path).unwrap();
    chown(&path, Some(54_321), None).unwrap();
    let error = SealKey::load(&path, None).unwrap_err();
    assert!(
        matches!(error, PkiError::FileOwner { owner: 54_321, .. }),
        "{error}"
    );
}

#[test]
fn root_reads_the_key_that_a_service_has_in_its_own_folder() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempdir().unwrap();
    let path = folder.path().join("seal.key");
    SealKey::create_file(&path).unwrap();
    for path in [folder.path(), &path] {
        chown(path, Some(54_321), None).unwrap();
    }
    SealKey::load(&path, None).unwrap();
    // In another's folder it is nobody's.
    chown(folder.path(), Some(54_322), None).unwrap();
    SealKey::load(&path, None).unwrap_err();
}

#[test]
fn a_seal_key_of_the_wrong_size_or_kind_is_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("seal.key");
    let missing = SealKey::load(&path, None).unwrap_err();
    assert!(matches!(missing, PkiError::NoSealKey { .. }), "{missing}");
    for size in [0, 31, 33, 64, 65 * 1024] {
        fs::write(&path, vec![7; size]).unwrap();
        set_mode(&path, 0o600);
        assert!(SealKey::load(&path, None).is_err(), "{size}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = SealKey::load(&path, None).unwrap_err();
    assert!(matches!(error, PkiError::NotAFile { .. }), "{error}");
}

#[test]
fn a_systemd_credential_wins_over_the_file_whatever_its_mode() {
    let folder = tempdir().unwrap();
    let (file, credential) = (
        folder.path().join("seal.key"),
        folder.path().join(SEAL_CREDENTIAL),
    );
    let (in_file, in_credential) = (
        SealKey::create_file(&file).unwrap(),
        SealKey::create_file(&credential).unwrap(),
    );
    set_mode(&credential, 0o440);
    let load = || SealKey::load(&file, Some(folder.path())).unwrap().key_id();
    assert_eq!(load(), in_credential.key_id());
    fs::remove_file(&credential).unwrap();
    assert_eq!(load(), in_file.key_id());
}

#[test]
fn a_private_key_is_made_once_kept_private_and_never_replaced() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("key.pem");
    let made = KeyPair::load_or_create(&path).unwrap().fingerprint();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(KeyPair::load_or_create(&path).unwrap().fingerprint(), made);
    assert_eq!(KeyPair::load(&path).unwrap().fingerprint(), made);
    let replaced = KeyPair::generate().unwrap().save_new(&path);
    assert!(matches!(replaced, Err(PkiError::AlreadyExists { .. })));
    set_mode(&path, 0o644);
    assert!(matches!(
        KeyPair::load_or_create(&path),
        Err(PkiError::FileMode { .. })
    ));
    set_mode(&path, 0o600);
    fs::write(&path, "not a key").unwrap();
    assert!(matches!(
        KeyPair::load_or_create(&path),
        Err(PkiError::Malformed { .. })
    ));
}

#[test]
fn what_a_crash_left_beside_a_file_is_no_obstacle() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("key.pem");
    fs::write(folder.path().join("key.pem.new"), "half a k").unwrap();
    let made = KeyPair::load_or_create(&path).unwrap().fingerprint();
    assert_eq!(KeyPair::load(&path).unwrap().fingerprint(), made);
}

#[test]
fn an_identity_folder_is_complete_or_not_there() {
    let folder = tempdir().unwrap();
    let cluster = Cluster::new();
    let identity = IdentityFolder::new(folder.path());
    assert!(identity.load().unwrap().is_none());
    let key = identity.key().unwrap();
    assert!(identity.load().unwrap().is_none());
    identity.save_ca(cluster.ca.certificate()).unwrap();
    assert!(identity.load().unwrap().is_none());
    assert_eq!(identity.load_trust().unwrap().unwrap(), cluster.ca.trust());
    let life = Duration::from_secs(60);
    // A machine that was off for long: expired, and loaded all the same.
    let old = cluster.sign(&key, Role::Agent, now_ms() - 3_600_000, life);
    identity.save_certificate(&old).unwrap();
    let stored = identity.load().unwrap().unwrap();
    assert_eq!(
        (stored.certificate, stored.trust),
        (old, cluster.ca.trust())
    );
    assert_eq!(stored.key.fingerprint(), key.fingerprint());
    let new = cluster.sign(&key, Role::Agent, now_ms(), life);
    identity.save_certificate(&new).unwrap();
    assert_eq!(identity.load().unwrap().unwrap().certificate, new);

    let other = cluster.sign(&KeyPair::generate().unwrap(), Role::Agent, now_ms(), life);
    identity.save_certificate(&other).unwrap();
    assert!(matches!(identity.load(), Err(PkiError::Mismatch { .. })));
    identity.save_certificate(&new).unwrap();
    identity.save_ca(Cluster::new().ca.certificate()).unwrap();
    assert!(identity.load().is_err());
}
