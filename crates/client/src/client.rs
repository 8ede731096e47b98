//! Sending a call to whichever controller answers.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tower::util::MapResponseLayer;
use virtflow_types::{ErrorCode, PAGE_OBJECTS_MAX};

use crate::answer::{self, Answer, Listed, RESPONSE_BYTES_MAX};
use crate::error::chain;
use crate::{
    Attempt, Call, ClientError, ClusterCa, Endpoint, Journal, Method, Session, SessionKeeper,
};

/// How long the client keeps trying.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To reach one controller: TCP and TLS.
    pub connect: Duration,
    /// While controllers answer that they cannot do it now: long enough for an election.
    pub unavailable: Duration,
    /// While no controller can be reached at all.
    pub unreachable: Duration,
    /// The first pause between two rounds over all controllers; each is twice the last.
    pub pause_first: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// For another process that renews the session.
    pub session_lock: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            unavailable: Duration::from_secs(15),
            unreachable: Duration::from_secs(5),
            pause_first: Duration::from_millis(100),
            pause_max: Duration::from_secs(1),
            session_lock: Duration::from_secs(20),
        }
    }
}

/// Pause between two looks at the session's lock.
const SESSION_LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Pages of a list that have no row and still a next one.
const EMPTY_PAGES_MAX: usize = 100;

/// Who asks.
#[derive(Clone)]
pub enum Credentials {
    /// Nobody: only a login may be sent.
    None,
    /// An API token.
    Token(String),
    /// A login's session, renewed when its access token has expired.
    Session(Arc<dyn SessionKeeper>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token { .. }",
            Self::Session(_) => "Session { .. }",
        })
    }
}

/// A cluster's API. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) credentials: Credentials,
    pub(crate) limits: Limits,
    /// The one that answered last is first.
    endpoints: Arc<Mutex<Vec<Endpoint>>>,
    journal: Journal,
}

/// Why one controller gave no final answer.
enum Miss {
    /// Nothing was sent.
    Unsent(String),
    /// Nothing was sent, for whoever is there does not speak as a controller of this cluster.
    Stranger(String),
    /// It was sent, or may have been.
    Lost(String),
    /// It answered that it cannot now; after so long it may be asked again.
    Refused(ClientError, Duration),
}

impl Client {
    /// A client of the cluster with this CA. The endpoints are tried in their order.
    pub fn new(
        ca: &ClusterCa,
        endpoints: Vec<Endpoint>,
        credentials: Credentials,
        limits: Limits,
    ) -> Result<Self, ClientError> {
        let journal = Journal::default();
        let noted = journal.clone();
        let http = ca
            .tls()
            .map_err(|error| ClientError::Tls(chain(&error)))?
            .connect_timeout(limits.connect)
            .connector_layer(MapResponseLayer::new(move |connection| {
                noted.connected();
                connection
            }))
            .redirect(reqwest::redirect::Policy::none())
            // Controllers are reached directly: a proxy of the environment has no business here.
            .no_proxy()
            .user_agent(concat!("virtflow/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Tls(chain(&error)))?;
        Ok(Self {
            http,
            credentials,
            limits,
            endpoints: Arc::new(Mutex::new(endpoints)),
            journal,
        })
    }

    /// A client that asks this controller and no other, as the same user.
    #[must_use]
    pub fn only(&self, endpoint: Endpoint, limits: Limits) -> Self {
        Self {
            limits,
            endpoints: Arc::new(Mutex::new(vec![endpoint])),
            ..self.clone()
        }
    }

    /// What it and its clones asked for that changes something.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// The endpoints, the one that answered last first.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.order().clone()
    }

    fn order(&self) -> MutexGuard<'_, Vec<Endpoint>> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a call. A session whose access token has expired is renewed once.
    pub async fn send(&self, call: &Call) -> Result<Answer, ClientError> {
        let keeper = match &self.credentials {
            Credentials::None => return self.exchange(call, None).await,
            Credentials::Token(token) => return self.exchange(call, Some(token)).await,
            Credentials::Session(keeper) => keeper,
        };
        let session = keeper.load().map_err(kept)?;
        let first = self.exchange(call, Some(&session.access_token)).await;
        match first {
            Err(error) if error.code() == ErrorCode::Unauthenticated => {
                let access_token = self.renew(keeper.as_ref(), &session).await?;
                self.exchange(call, Some(&access_token)).await
            }
            other => other,
        }
    }

    /// The token that is in force, or, where that was refused, the one that it is renewed to.
    pub(crate) async fn bearer(&self, is_refused: bool) -> Result<Option<String>, ClientError> {
        let keeper = match &self.credentials {
            Credentials::None => return Ok(None),
            Credentials::Token(token) => return Ok(Some(token.clone())),
            Credentials::Session(keeper) => keeper,
        };
        let session = keeper.load().map_err(kept)?;
        match is_refused {
            true => self.renew(keeper.as_ref(), &session).await.map(Some),
            false => Ok(Some(session.access_token)),
        }
    }

    /// All rows of a list, page by page, up to `rows_max`.
    pub async fn list(&self, call: &Call, rows_max: usize) -> Result<Listed, ClientError> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        let mut empty_pages = 0;
        loop {
            let page = (rows_max - rows.len()).clamp(1, PAGE_OBJECTS_MAX);
            let call = call
                .clone()
                .query("limit", page.to_string())
                .query_if("cursor", cursor.take());
            let answer = self.send(&call).await?;
            let Value::Array(page) = answer.data else {
                return Err(self.strange("a list that is none"));
            };
            empty_pages = if page.is_empty() { empty_pages + 1 } else { 0 };
            rows.extend(page);
            let more = answer.next_cursor.is_some() || rows.len() > rows_max;
            rows.truncate(rows_max);
            if !more || rows.len() == rows_max {
                return Ok(Listed { rows, more });
            }
            if empty_pages > EMPTY_PAGES_MAX {
                return Err(self.strange("a list without an end"));
            }
            cursor = answer.next_cursor;
        }
    }

    /// The controller that answered last said what none says.
    fn strange(&self, problem: &str) -> ClientError {
        match self.endpoints().into_iter().next() {
            Some(endpoint) => ClientError::Protocol {
                endpoint,
                problem: problem.to_owned(),
            },
            None => ClientError::Unreachable { tried: Vec::new() },
        }
    }

    /// Logs in. Sent again only while nothing of it arrived anywhere; the answer's data besides the
    /// session may tell `endpoints`.
    pub async fn log_in(
        &self,
        user: &str,
        password: &str,
        device: &str,
    ) -> Result<(Session, Value), ClientError> {
        let call = Call::new(Method::Post, &["auth", "login"])?
            .body(json!({"username": user, "password": password, "device": device}));
        let data = self.exchange(&call, None).await?.data;
        let session = Session::of(&data).ok_or_else(no_session)?;
        Ok((session, data))
    }

    /// Renews a session whose access token was refused; gives the token in force.
    async fn renew(
        &self,
        keeper: &dyn SessionKeeper,
        refused: &Session,
    ) -> Result<String, ClientError> {
        let begun = Instant::now();
        let _lock = loop {
            if let Some(lock) = keeper.try_lock().map_err(kept)? {
                break lock;
            }
            if begun.elapsed() > self.limits.session_lock {
                return Err(ClientError::Session(
                    "another process has been renewing it for too long".into(),
                ));
            }
            tokio::time::sleep(SESSION_LOCK_PAUSE).await;
        };
        // Somebody else may have renewed it while we waited for the lock.
        let session = keeper.load().map_err(kept)?;
        if session.access_token != refused.access_token {
            return Ok(session.access_token);
        }
        // Its use makes the next token: whoever stops before that is kept is logged out.
        let _renewal = self.journal.renew();
        let call = Call::new(Method::Post, &["auth", "refresh"])?
            .body(json!({"refresh_token": session.refresh_token}));
        let data = self.exchange(&call, None).await?.data;
        let renewed = Session::of(&data).ok_or_else(no_session)?;
        keeper.save(&renewed).map_err(kept)?;
        Ok(renewed.access_token)
    }

    /// Sends a call, and notes what becomes of it.
    async fn exchange(&self, call: &Call, bearer: Option<&str>) -> Result<Answer, ClientError> {
        let under_way = self.journal.begin(call);
        let answer = self.ask_around(call, bearer).await?;
        under_way.done(&answer);
        Ok(answer)
    }

    /// Asks one controller after the other until one gives a final answer.
    async fn ask_around(&self, call: &Call, bearer: Option<&str>) -> Result<Answer, ClientError> {
        let begun = Instant::now();
        let mut pause = self.limits.pause_first;
        // What an earlier attempt may have done although no answer came.
        let mut lost: Option<String> = None;
        loop {
            let mut tried = Vec::new();
            let mut refused = None;
            let mut strangers = 0;
            // As long as the controllers ask for, if they do: sooner they would only refuse again.
            let mut asked = Duration::ZERO;
            for endpoint in self.endpoints() {
                match self.attempt(&endpoint, call, bearer).await {
                    Ok(done) => {
                        self.prefer(&endpoint);
                        return done;
                    }
                    Err(Miss::Unsent(problem)) => tried.push(Attempt { endpoint, problem }),
                    Err(Miss::Stranger(problem)) => {
                        strangers += 1;
                        tried.push(Attempt { endpoint, problem });
                    }
                    Err(Miss::Lost(problem)) => {
                        if !call.is_reading() {
                            lost = Some(format!("{endpoint}: {problem}"));
                        }
                        if !call.is_repeatable() {
                            return Err(unknown(call, lost.unwrap_or(problem)));
                        }
                        tried.push(Attempt { endpoint, problem });
                    }
                    Err(Miss::Refused(error, after)) => {
                        if error.code() == ErrorCode::OutcomeUnknown {
                            lost = Some(error.to_string());
                            if !call.is_repeatable() {
                                return Err(error);
                            }
                        }
                        asked = asked.max(after);
                        refused = Some(error);
                    }
                }
            }
            let limit = if refused.is_some() {
                self.limits.unavailable
            } else {
                self.limits.unreachable
            };
            if lost.is_none() && refused.is_none() && !tried.is_empty() && strangers == tried.len()
            {
                return Err(ClientError::Strangers { tried });
            }
            if tried.is_empty() && refused.is_none() || begun.elapsed() + asked.max(pause) > limit {
                return Err(match (lost, refused) {
                    (Some(problem), _) => unknown(call, problem),
                    (None, Some(refused)) => refused,
                    (None, None) => ClientError::Unreachable { tried },
                });
            }
            let pausing = pause.mul_f64(rand::random_range(0.5..1.0));
            tokio::time::sleep(asked.max(pausing)).await;
            pause = (pause * 2).min(self.limits.pause_max);
        }
    }

    /// Asks one controller. `Ok` is final, be it a success or a refusal.
    async fn attempt(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        bearer: Option<&str>,
    ) -> Result<Result<Answer, ClientError>, Miss> {
        let mut request = self
            .http
            .request(call.method.http(), format!("{endpoint}{}", call.target()))
            .timeout(call.timeout);
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(generation) = call.if_match {
            request = request.header("if-match", format!("\"{generation}\""));
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| {
            let problem = plain(&error);
            if is_distrust(&error) {
                Miss::Stranger(problem)
            } else if error.is_connect() || error.is_builder() {
                Miss::Unsent(problem)
            } else {
                Miss::Lost(problem)
            }
        })?;
        let status = response.status().as_u16();
        let after = retry_after(&response);
        let body = match read_body(response).await {
            Ok(body) => body,
            Err(Unread::Cut(problem)) => return Err(Miss::Lost(problem)),
            // It would be as large the next time.
            Err(Unread::Large) => return Ok(Err(too_large(endpoint, call))),
        };
        match answer::read(endpoint, status, &body) {
            Err(ClientError::Protocol { problem, .. })
                if !call.is_reading() && !(300..500).contains(&status) =>
            {
                Ok(Err(unknown(call, format!("{endpoint}: {problem}"))))
            }
            // A limit that says no time is not lifted by time.
            Err(error) if error.code() == ErrorCode::LimitExceeded && after.is_none() => {
                Ok(Err(error))
            }
            Err(error) if is_passing(&error) => {
                // A 503 asks for a second, which elections rarely need: only a rate limit is obeyed in full.
                let after = after.filter(|_| status == 429).unwrap_or_default();
                Err(Miss::Refused(error, after))
            }
            done => Ok(done),
        }
    }

    /// The one that answered is asked first from now on.
    pub(crate) fn prefer(&self, endpoint: &Endpoint) {
        let mut endpoints = self.order();
        if let Some(at) = endpoints.iter().position(|known| known == endpoint) {
            endpoints[..=at].rotate_right(1);
        }
    }
}

/// True if another controller, or the same one in a moment, may answer otherwise.
pub(crate) fn is_passing(error: &ClientError) -> bool {
    matches!(error, ClientError::Api(error) if error.status != 413 && matches!(
        error.code,
        ErrorCode::Unavailable | ErrorCode::OutcomeUnknown | ErrorCode::LimitExceeded
    ))
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let value = response.headers().get("retry-after")?;
    let seconds = value.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Why a body was not read to its end.
pub(crate) enum Unread {
    Cut(String),
    Large,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(problem) => f.write_str(problem),
            Self::Large => write!(f, "the answer is larger than {RESPONSE_BYTES_MAX} bytes"),
        }
    }
}

pub(crate) async fn read_body(mut response: reqwest::Response) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Unread::Cut(plain(&error)))?
    {
        if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
            return Err(Unread::Large);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A transport error without its URL, which stands beside it already.
pub(crate) fn plain(error: &reqwest::Error) -> String {
    if error.is_timeout() && !error.is_connect() {
        return "no answer in time".into();
    }
    let mut source = std::error::Error::source(error);
    while let Some(next) = source.and_then(std::error::Error::source) {
        source = Some(next);
    }
    match source {
        Some(source) => source.to_string(),
        None if error.is_timeout() => "no connection in time".into(),
        None => error.to_string(),
    }
}

fn too_large(endpoint: &Endpoint, call: &Call) -> ClientError {
    let problem = Unread::Large.to_string();
    match call.is_reading() {
        true => ClientError::Protocol {
            endpoint: endpoint.clone(),
            problem,
        },
        false => unknown(call, format!("{endpoint}: {problem}")),
    }
}

/// True if a handshake failed for what was shown or said in it: the next one would, too.
fn is_distrust(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = next {
        if cause.is::<rustls::Error>() {
            return true;
        }
        let of_io = cause.downcast_ref::<std::io::Error>();
        next = match of_io.and_then(|error| error.get_ref()) {
            // One that is wrapped into another is no cause of that: it is that.
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    false
}

fn unknown(call: &Call, problem: String) -> ClientError {
    ClientError::OutcomeUnknown {
        problem,
        key: call.key.clone(),
    }
}

fn no_session() -> ClientError {
    ClientError::Session("the answer to the login holds no tokens".into())
}

fn kept(error: std::io::Error) -> ClientError {
    ClientError::Session(error.to_string())
}
