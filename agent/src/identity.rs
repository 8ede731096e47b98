//! Who this host is to its cluster: key, certificate, and where the controllers are.
//!
//! The key never leaves the host and never changes by itself: it is the host's identity. The
//! certificate is renewed at a third of its life over the session, or, should it have expired, with
//! the key over the API listener.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, Endpoint};
use virtflow_pki::{
    Alpn, CaCertificate, CaFingerprint, CertStore, Certificate, IdentityFolder, Role,
    ServerExpectation, TlsConnector, client_config,
};
use virtflow_proto::agent::v1;
use virtflow_proto::agent::v1::enrolment_client::EnrolmentClient;
use virtflow_types::{ObjectId, Timestamp, is_host_port};

use crate::config::{CONTROLLERS_MAX, Config};
use crate::inventory::{hostname, serial_number};
use crate::local::file::{self, Found};

/// How long one call for a certificate may take.
const CALL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);
/// Name of the file beside the key that says where the controllers are.
const MEMBERSHIP_FILE: &str = "membership.json";

/// Where this host belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The host's id.
    pub host_id: ObjectId,
    /// The cluster's.
    pub cluster_id: ObjectId,
    /// Agent listeners of the controllers.
    pub agent_endpoints: Vec<String>,
    /// API listeners of the controllers.
    pub api_endpoints: Vec<String>,
}

/// A host that has joined.
#[derive(Debug)]
pub struct HostIdentity {
    folder: IdentityFolder,
    certificates: Arc<CertStore>,
    membership: Mutex<Membership>,
    serial: String,
}

impl HostIdentity {
    /// What is on disk; `None` if this host hasn't joined yet.
    ///
    /// # Errors
    /// If the folder holds something that doesn't fit together.
    pub fn load(config: &Config) -> anyhow::Result<Option<Self>> {
        let folder = IdentityFolder::new(config.identity_dir());
        let Some(stored) = folder.load().context("cannot use the host's identity")? else {
            return Ok(None);
        };
        let path = folder.path().join(MEMBERSHIP_FILE);
        let identity = stored.certificate.identity();
        let membership = match read_membership(&path) {
            Some(membership) => membership,
            // It can be lost: the certificate says who we are, the configuration where to ask.
            None => Membership {
                host_id: ObjectId::from_uuid(identity.subject_id),
                cluster_id: ObjectId::from_uuid(identity.cluster_id),
                agent_endpoints: Vec::new(),
                api_endpoints: Vec::new(),
            },
        };
        anyhow::ensure!(
            identity.role == Role::Agent,
            "the certificate in {} is for a {}, not for an agent; remove the folder and join again",
            folder.path().display(),
            identity.role
        );
        let certificates = CertStore::new(stored.key, stored.certificate, stored.trust.ca())?;
        Ok(Some(Self {
            folder,
            certificates,
            membership: Mutex::new(membership),
            serial: serial_number(config.serial.as_deref())?.text,
        }))
    }

    /// The certificate in use.
    #[must_use]
    pub fn certificates(&self) -> &Arc<CertStore> {
        &self.certificates
    }

    /// Where the host belongs.
    #[must_use]
    pub fn membership(&self) -> Membership {
        self.lock().clone()
    }

    /// Takes note of where controllers are now; what is no address is left out.
    pub fn learn_endpoints(&self, endpoints: &v1::Endpoints) {
        let usable = |list: &[String]| -> Vec<String> {
            let usable = list.iter().filter(|text| is_host_port(text));
            usable.take(CONTROLLERS_MAX).cloned().collect()
        };
        let agent_endpoints = usable(&endpoints.agent_endpoints);
        if agent_endpoints.is_empty() {
            return;
        }
        let changed = {
            let mut membership = self.lock();
            let before = membership.clone();
            membership.agent_endpoints = agent_endpoints;
            membership.api_endpoints = usable(&endpoints.api_endpoints);
            (before != *membership).then(|| membership.clone())
        };
        if let Some(membership) = changed
            && let Err(error) = save_membership(&self.folder, &membership)
        {
            tracing::warn!(%error, "can't store where the controllers are");
        }
    }

    /// A channel to an agent listener, with the host's certificate.
    ///
    /// # Errors
    /// If nobody answers there, or somebody who isn't a controller of our cluster.
    pub async fn connect(&self, endpoint: &str) -> anyhow::Result<(Channel, TlsConnector)> {
        let expected = ServerExpectation::controller(self.certificates.trust().clone());
        let tls = client_config(Some(&self.certificates), expected, Alpn::H2)?;
        channel(endpoint, TlsConnector::new(tls)).await
    }

    /// Takes a renewed certificate into use, then stores it.
    ///
    /// # Errors
    /// If it is for another key or identity, or can't be stored.
    pub fn renewed(&self, reply: v1::EnrolReply) -> anyhow::Result<()> {
        let certificate = Certificate::from_der(reply.certificate_der)?;
        anyhow::ensure!(
            !certificate.validity().is_premature(now_ms()),
            "the certificate that was sent is valid only later: the controller's clock is ahead of this host's"
        );
        self.certificates.replace(certificate.clone())?;
        self.folder.save_certificate(&certificate)?;
        self.learn_endpoints(&v1::Endpoints {
            agent_endpoints: reply.agent_endpoints,
            api_endpoints: reply.api_endpoints,
        });
        Ok(())
    }

    /// Gets a certificate with the key on record, after the last one expired. Asks each controller
    /// until one answers.
    ///
    /// # Errors
    /// If none gives one.
    pub async fn reenrol(&self) -> anyhow::Result<()> {
        let endpoints = self.membership().api_endpoints;
        let mut last = anyhow::anyhow!("no controller's API listener is known; join again");
        for endpoint in endpoints {
            match self.reenrol_at(&endpoint).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error.context(format!("re-enrolment at {endpoint} failed")),
            }
        }
        Err(last)
    }

    async fn reenrol_at(&self, endpoint: &str) -> anyhow::Result<()> {
        let expected = ServerExpectation::controller(self.certificates.trust().clone());
        // No certificate is shown: it has expired. The request is signed with the key on record.
        let tls = client_config(None, expected, Alpn::H2)?;
        let (channel, _) = channel(endpoint, TlsConnector::new(tls)).await?;
        let request = v1::ReenrolRequest {
            csr_der: self.certificates.csr()?,
            serial_number: self.serial.clone(),
        };
        let reply = EnrolmentClient::new(channel).reenrol(timed(request)).await;
        self.renewed(reply.map_err(told)?.into_inner())
    }

    fn lock(&self) -> MutexGuard<'_, Membership> {
        self.membership
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Joins a cluster: makes the key if there is none, shows the token, stores what comes back. The
/// same key and token may be used again, so a join that was cut short is simply repeated.
///
/// # Errors
/// If no controller takes the token, or what answers isn't of the cluster with that fingerprint.
pub async fn join(
    config: &Config,
    controllers: &[String],
    ca: &CaFingerprint,
    token: &str,
) -> anyhow::Result<Membership> {
    let serial = serial_number(config.serial.as_deref())?;
    let folder = IdentityFolder::new(config.identity_dir());
    make_private_folder(folder.path())?;
    let key = folder.key()?;
    let request = v1::EnrolRequest {
        token: token.to_owned(),
        csr_der: key.csr()?,
        serial_number: serial.text,
        hostname: config.name.clone().unwrap_or_else(hostname),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut last = anyhow::anyhow!("no controller was named");
    for controller in controllers {
        let reply = match enrol_at(controller, ca, request.clone()).await {
            Ok(reply) => reply,
            Err(error) => {
                last = error.context(format!("joining at {controller} failed"));
                continue;
            }
        };
        let authority = CaCertificate::from_der_pinned(reply.ca_der, ca)?;
        let certificate = Certificate::from_der(reply.certificate_der)?;
        let identity = certificate.identity();
        anyhow::ensure!(
            identity.role == Role::Agent,
            "the token makes a {}, not an agent",
            identity.role
        );
        let membership = Membership {
            host_id: ObjectId::from_uuid(identity.subject_id),
            cluster_id: ObjectId::from_uuid(identity.cluster_id),
            agent_endpoints: reply.agent_endpoints,
            api_endpoints: reply.api_endpoints,
        };
        // Fits together, or isn't stored.
        CertStore::new(key, certificate.clone(), &authority)?;
        save_membership(&folder, &membership)?;
        folder.save_ca(&authority)?;
        // Last: a folder with a certificate is complete.
        folder.save_certificate(&certificate)?;
        return Ok(membership);
    }
    Err(last)
}

async fn enrol_at(
    controller: &str,
    ca: &CaFingerprint,
    request: v1::EnrolRequest,
) -> anyhow::Result<v1::EnrolReply> {
    let tls = client_config(None, ServerExpectation::first_contact(*ca), Alpn::H2)?;
    let (channel, _) = channel(controller, TlsConnector::new(tls)).await?;
    let reply = EnrolmentClient::new(channel).enrol(timed(request)).await;
    Ok(reply.map_err(told)?.into_inner())
}

/// A channel to `host:port` or `https://host:port`.
async fn channel(
    address: &str,
    connector: TlsConnector,
) -> anyhow::Result<(Channel, TlsConnector)> {
    let host_port = address.strip_prefix("https://").unwrap_or(address);
    let host_port = host_port.strip_suffix('/').unwrap_or(host_port);
    anyhow::ensure!(
        is_host_port(host_port),
        "`{address}` is not `https://host:port`"
    );
    let endpoint = Endpoint::from_shared(["https://", host_port].concat())?
        .http2_keep_alive_interval(std::time::Duration::from_secs(5))
        .keep_alive_timeout(std::time::Duration::from_secs(5))
        .keep_alive_while_idle(true);
    let channel = endpoint.connect_with_connector(connector.clone()).await?;
    Ok((channel, connector))
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// A refusal as the controller worded it.
pub(crate) fn told(status: tonic::Status) -> anyhow::Error {
    if status.message().is_empty() {
        return anyhow::Error::new(status);
    }
    anyhow::anyhow!("{}", status.message())
}

fn make_private_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

fn read_membership(path: &Path) -> Option<Membership> {
    match file::read(path) {
        Found::Content(bytes) => serde_json::from_slice(&bytes).ok(),
        Found::Nothing => None,
        Found::Damaged(problem) => {
            tracing::warn!(file = %path.display(), problem, "where controllers are is not known");
            None
        }
    }
}

fn save_membership(folder: &IdentityFolder, membership: &Membership) -> anyhow::Result<()> {
    let path = folder.path().join(MEMBERSHIP_FILE);
    let bytes = serde_json::to_vec_pretty(membership)?;
    file::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    Timestamp::now().ms()
}
