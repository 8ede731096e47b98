//! Which cluster this is: its CA, as a file or fetched once and recognised by its fingerprint.

use std::sync::Arc;

use virtflow_pki::{
    Alpn, CaCertificate, CaFingerprint, ConnectError, PkiError, ServerExpectation, TlsConnector,
    Trust, client_config,
};

use crate::Endpoint;

/// Why a CA is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not a CA of a cluster, or not the one that was named.
    #[error("the CA is not accepted")]
    Ca(#[from] PkiError),
    /// The text is no fingerprint.
    #[error(
        "`{text}` is no CA fingerprint: 64 hexadecimal digits, as `virtflow-controller init` prints them"
    )]
    Fingerprint {
        /// What was given, shortened.
        text: String,
        /// Why not.
        #[source]
        source: PkiError,
    },
    /// The controller could not be reached, or showed a certificate of another CA.
    #[error("cannot fetch the CA from {endpoint}")]
    Unreachable {
        /// Whom was asked.
        endpoint: Endpoint,
        /// Why not.
        #[source]
        source: ConnectError,
    },
    /// The controller was recognised but did not send its CA.
    #[error("{0} did not send its CA; copy the CA file and name that instead")]
    NotSent(Endpoint),
}

/// The CA of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterCa {
    trust: Trust,
}

impl ClusterCa {
    /// From the text of a PEM file.
    pub fn from_pem(pem: &str) -> Result<Self, TrustError> {
        let trust = Trust::new(CaCertificate::from_pem(pem)?);
        Ok(Self { trust })
    }

    /// At first contact: the controller sends its CA, which counts only if its SHA-256 is
    /// `fingerprint` and the controller's own certificate was signed by it.
    pub async fn fetch(endpoint: &Endpoint, fingerprint: &str) -> Result<Self, TrustError> {
        let fingerprint: CaFingerprint =
            fingerprint
                .trim()
                .parse()
                .map_err(|source| TrustError::Fingerprint {
                    text: fingerprint.chars().take(80).collect(),
                    source,
                })?;
        let expected = ServerExpectation::first_contact(fingerprint);
        let connector = TlsConnector::new(client_config(None, expected, Alpn::H2AndHttp11)?);
        let connection = connector
            .connect(endpoint.host(), endpoint.port())
            .await
            .map_err(|source| TrustError::Unreachable {
                endpoint: endpoint.clone(),
                source,
            })?;
        let sent = connection
            .sent_ca()
            .ok_or_else(|| TrustError::NotSent(endpoint.clone()))?;
        let trust = Trust::new(CaCertificate::from_der_pinned(sent, &fingerprint)?);
        Ok(Self { trust })
    }

    /// As PEM text.
    pub fn pem(&self) -> String {
        self.trust.ca().pem()
    }

    /// SHA-256 of the certificate, 64 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        self.trust.ca().fingerprint().to_string()
    }

    /// TLS towards any controller of this cluster.
    pub(crate) fn tls(&self) -> Result<reqwest::ClientBuilder, PkiError> {
        let expected = ServerExpectation::controller(self.trust.clone());
        let config = client_config(None, expected, Alpn::H2AndHttp11)?;
        Ok(reqwest::Client::builder().tls_backend_preconfigured(Arc::unwrap_or_clone(config)))
    }
}
