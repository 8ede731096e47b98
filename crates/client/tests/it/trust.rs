//! Who is taken for a controller of the cluster.

use serde_json::json;
use virtflow_client::{Call, ClientError, ClusterCa, Credentials, Method};
use virtflow_pki::Role;

use crate::fake::{Cluster, ok};

fn call() -> Call {
    Call::new(Method::Get, &["vms"]).unwrap()
}

#[tokio::test]
async fn another_cluster_gets_no_request() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let stranger = theirs.controller(|_| ok(json!(1))).await;
    let client = ours.client(&[stranger.endpoint()], Credentials::Token("hush".into()));
    let error = client.send(&call()).await.unwrap_err();
    assert!(matches!(error, ClientError::Strangers { .. }), "{error:?}");
    assert!(stranger.calls().is_empty(), "it saw the token");
}

#[tokio::test]
async fn only_a_controller_is_a_controller() {
    let cluster = Cluster::new();
    for role in [Role::Agent, Role::Client] {
        let impostor = cluster.server(role, |_| ok(json!(1))).await;
        let client = cluster.client(&[impostor.endpoint()], Credentials::Token("hush".into()));
        let error = client.send(&call()).await.unwrap_err();
        assert!(matches!(error, ClientError::Strangers { .. }), "{error:?}");
        assert!(error.to_string().contains("certificate"), "{error}");
        assert!(impostor.calls().is_empty());
    }
}

#[tokio::test]
async fn the_ca_is_fetched_and_recognised() {
    let cluster = Cluster::new();
    let controller = cluster.controller(|_| ok(json!(7))).await;
    let fingerprint = cluster.ca().fingerprint();
    let ca = ClusterCa::fetch(&controller.endpoint(), &fingerprint)
        .await
        .unwrap();
    assert_eq!(ca.pem(), cluster.ca().pem());
    let client = virtflow_client::Client::new(
        &ca,
        vec![controller.endpoint()],
        Credentials::None,
        crate::fake::LIMITS,
    );
    assert_eq!(client.unwrap().send(&call()).await.unwrap().data, json!(7));

    let other = Cluster::new().ca().fingerprint();
    for wrong in [other.as_str(), &fingerprint[1..], "", "xyz"] {
        let refused = ClusterCa::fetch(&controller.endpoint(), wrong).await;
        assert!(refused.is_err(), "{wrong}");
    }
}
