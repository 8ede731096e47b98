//! The own certificate. Signed here, by the local copy of the CA, without asking anyone: a site that was
//! dark for longer than certificates live starts again by itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use virtflow_pki::{
    CertStore, Certificate, CertificateAuthority, Csr, IdentityFolder, KeyPair, LeafRequest, Role,
};
use virtflow_types::{ObjectId, Timestamp};

use crate::app::App;
use crate::config::Config;

/// Longest pause between two looks at the certificate: also how long a clock that was set right may leave
/// one in use whose time has not come.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Pause after a renewal that failed.
const RETRY: Duration = Duration::from_secs(5);

/// What this controller's certificate says.
fn leaf(config: &Config, store_id: ObjectId) -> LeafRequest {
    let mut dns_names = Vec::new();
    let mut ip_addresses = vec![IpAddr::from([127, 0, 0, 1])];
    let advertised = [
        config.api_address(),
        config.agent_address(),
        config.peer_address(),
    ];
    let monitoring = config.status_address();
    let hosts = advertised
        .iter()
        .chain(&monitoring)
        .filter_map(|address| Some(address.rsplit_once(':')?.0));
    for name in hosts.chain(config.certificates.names.iter().map(String::as_str)) {
        match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) if !ip_addresses.contains(&ip) => ip_addresses.push(ip),
            Err(_) if !dns_names.iter().any(|known| known == name) => {
                dns_names.push(name.to_owned())
            }
            _ => {}
        }
    }
    LeafRequest {
        role: Role::Controller,
        subject_id: store_id.uuid(),
        dns_names,
        ip_addresses,
        lifetime: Duration::from_secs(config.certificates.controller_lifetime_s),
    }
}

/// Signs a new certificate for `key`.
pub fn sign(
    config: &Config,
    store_id: ObjectId,
    authority: &CertificateAuthority,
    key: &KeyPair,
) -> anyhow::Result<Certificate> {
    let csr = Csr::from_der(&key.csr()?)?;
    Ok(authority.sign(&csr, &leaf(config, store_id), Timestamp::now().ms())?)
}

/// The certificate to begin with: always a new one, so that it carries today's names and lives on.
pub fn begin(
    config: &Config,
    store_id: ObjectId,
    authority: &CertificateAuthority,
) -> anyhow::Result<Arc<CertStore>> {
    let folder = IdentityFolder::new(config.folders().pki());
    let key = folder.key().context("the key of this controller")?;
    let certificate =
        sign(config, store_id, authority, &key).context("signing the own certificate")?;
    folder.save_ca(authority.certificate())?;
    folder.save_certificate(&certificate)?;
    Ok(CertStore::new(key, certificate, authority.certificate())?)
}

/// Renews at a third of the certificate's life, for ever.
pub async fn renew(app: App) {
    let jitter = virtflow_types::chance::number();
    let folder = IdentityFolder::new(app.config().folders().pki());
    loop {
        let validity = app.certificates().certificate().validity();
        let now = Timestamp::now().ms();
        let wait = Duration::from_millis(validity.renew_at_ms(jitter).saturating_sub(now));
        if !wait.is_zero() && !validity.is_premature(now) {
            tokio::time::sleep(wait.min(LOOK_EVERY)).await;
            continue;
        }
        match renew_once(&app, &folder) {
            Ok(certificate) => {
                tracing::info!(
                    serial = certificate.serial_hex(),
                    "the own certificate was renewed"
                );
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the own certificate could not be renewed"
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn renew_once(app: &App, folder: &IdentityFolder) -> anyhow::Result<Certificate> {
    let csr = Csr::from_der(&app.certificates().csr()?)?;
    let leaf = leaf(app.config(), app.store_id());
    let certificate = app.authority().sign(&csr, &leaf, Timestamp::now().ms())?;
    folder.save_certificate(&certificate)?;
    app.certificates().replace(certificate.clone())?;
    Ok(certificate)
}
