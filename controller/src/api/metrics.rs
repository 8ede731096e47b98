//! What monitoring sees of the API: how many requests, how they ended, how long they took.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the buckets, in seconds: from a read in memory to a long wait on an operation.
const BUCKETS_S: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// Few values each, or there would be too many series: the route as it is declared, and the hundred
/// of the status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    route: String,
    status: String,
}

/// Histogram of requests by route.
#[derive(Debug, Clone)]
pub(crate) struct HttpMetrics {
    requests: Family<Labels, Histogram, fn() -> Histogram>,
}

impl HttpMetrics {
    /// Declares it.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let requests: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS_S));
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's first byte to its answer, by route and kind of answer",
            Unit::Seconds,
            requests.clone(),
        );
        Self { requests }
    }

    /// Counts one request.
    pub(crate) fn observe(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let labels = Labels {
            method: match *method {
                Method::GET => "GET",
                Method::HEAD => "HEAD",
                Method::POST => "POST",
                Method::PUT => "PUT",
                Method::PATCH => "PATCH",
                Method::DELETE => "DELETE",
                _ => "other",
            },
            route: route.to_owned(),
            status: format!("{}xx", status.as_u16() / 100),
        };
        self.requests
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}
