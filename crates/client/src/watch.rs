//! Watching a list: what there is, then each change of it, for as long as one likes. A stream that is cut off is begun
//! again, at whichever controller answers, where it was.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::{Value, json};
use virtflow_types::ErrorCode;

use crate::answer;
use crate::client::{Credentials, Unread, is_passing, plain, read_body};
use crate::{Attempt, Call, Client, ClientError};

/// How long a stream may be silent: three times as long as a controller is that has nothing to tell.
const SILENCE_MAX: Duration = Duration::from_secs(35);
/// Largest event, in bytes.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A watch outlasts what a call outlasts so many times: a restart of all controllers.
const PATIENCE: u32 = 4;

/// What a watch tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An object that is there, or that came to be or into the list.
    Added(Value),
    /// An object that changed.
    Changed(Value),
    /// An object that went, or left the list; of one that went, little more than its id is told.
    Removed(Value),
    /// Everything up to this index has been told.
    Told(u64),
    /// What happened meanwhile is not known: all that is there is told anew, up to the next [`Event::Told`].
    Again,
}

/// A watch that goes on until it is dropped.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    call: Call,
    /// The index up to which everything was told.
    from: Option<u64>,
    stream: Option<Response>,
    parser: Parser,
    /// Something was told since the list was begun.
    has_told: bool,
    /// Since when nothing has been heard, while that is so.
    lost: Option<Instant>,
    /// The access token was refused; another one has to be tried, once.
    is_refused: bool,
}

impl Client {
    /// Watches what a list's call asks for.
    pub fn watch(&self, call: &Call) -> Watch {
        Watch {
            client: self.clone(),
            call: call.clone().query("watch", "true"),
            from: None,
            stream: None,
            parser: Parser::default(),
            has_told: false,
            lost: None,
            is_refused: false,
        }
    }
}

impl Watch {
    /// True while no controller is heard.
    pub fn is_lost(&self) -> bool {
        self.stream.is_none()
    }

    /// The next event. It may be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(told) = self.parser.next() {
                match self.take(told)? {
                    Some(event) => return Ok(event),
                    None => continue,
                }
            }
            let Some(stream) = &mut self.stream else {
                if self.from.is_none() && self.has_told {
                    self.has_told = false;
                    return Ok(Event::Again);
                }
                self.connect().await?;
                continue;
            };
            let heard = tokio::time::timeout(SILENCE_MAX, stream.chunk()).await;
            match heard {
                Ok(Ok(Some(bytes))) if self.parser.push(&bytes) => self.lost = None,
                _ => self.hang_up(),
            }
        }
    }

    fn hang_up(&mut self) {
        self.stream = None;
        self.parser = Parser::default();
        self.lost.get_or_insert_with(Instant::now);
    }

    fn take(&mut self, told: Told) -> Result<Option<Event>, ClientError> {
        let data: Value = serde_json::from_str(&told.data).unwrap_or_default();
        if told.event != "error" {
            self.has_told = true;
            self.is_refused = false;
        }
        if let Some(index) = told.id {
            self.from = Some(index);
        }
        Ok(match told.event.as_str() {
            "added" => Some(Event::Added(data)),
            "changed" => Some(Event::Changed(data)),
            "removed" => Some(Event::Removed(data)),
            "bookmark" => Some(Event::Told(self.from.unwrap_or_default())),
            "error" => {
                self.hang_up();
                let body = json!({"meta": {}, "error": data}).to_string();
                let endpoint = self.client.endpoints().into_iter().next();
                if let Some(endpoint) = endpoint
                    && let Err(error) = answer::read(&endpoint, 500, body.as_bytes())
                {
                    self.forgive(error)?;
                }
                None
            }
            // A newer controller may tell more.
            _ => None,
        })
    }

    /// Goes on after what passes; gives back what does not.
    fn forgive(&mut self, error: ClientError) -> Result<(), ClientError> {
        match error.code() {
            ErrorCode::Expired if self.from.is_some() => {
                self.from = None;
                Ok(())
            }
            ErrorCode::Unauthenticated
                if !self.is_refused
                    && matches!(self.client.credentials, Credentials::Session(_)) =>
            {
                self.is_refused = true;
                Ok(())
            }
            _ if is_passing(&error) => Ok(()),
            _ => Err(error),
        }
    }

    /// Begins a stream at the first controller that gives one.
    async fn connect(&mut self) -> Result<(), ClientError> {
        let lost = *self.lost.get_or_insert_with(Instant::now);
        let limits = self.client.limits;
        let mut pause = limits.pause_first;
        loop {
            let bearer = self.client.bearer(self.is_refused).await?;
            let mut tried = Vec::new();
            let mut passing = None;
            for endpoint in self.client.endpoints() {
                let begun = self.begin(&endpoint, bearer.as_deref()).await;
                match begun {
                    Ok(Ok(stream)) => {
                        self.client.prefer(&endpoint);
                        self.stream = Some(stream);
                        return Ok(());
                    }
                    Ok(Err(error)) if is_passing(&error) => passing = Some(error),
                    Ok(Err(error)) => return self.forgive(error),
                    Err(problem) => tried.push(Attempt { endpoint, problem }),
                }
            }
            if lost.elapsed() + pause > limits.unavailable * PATIENCE {
                return Err(passing.unwrap_or(ClientError::Unreachable { tried }));
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(limits.pause_max);
        }
    }

    /// Asks one controller for a stream; the outer error is that it gave no answer.
    async fn begin(
        &self,
        endpoint: &crate::Endpoint,
        bearer: Option<&str>,
    ) -> Result<Result<Response, ClientError>, String> {
        let mut target = self.call.target();
        if let Some(from) = self.from {
            target.push_str(&format!("&from={from}"));
        }
        let mut request = self.client.http.get(format!("{endpoint}{target}"));
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        let answered = tokio::time::timeout(self.call.timeout, request.send()).await;
        let response = answered.map_err(|_| "no answer in time".to_owned())?;
        let response = response.map_err(|error| plain(&error))?;
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type");
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if status == 200 && is_stream {
            return Ok(Ok(response));
        }
        let read = read_body(response);
        let body = tokio::time::timeout(self.call.timeout, read).await;
        let body = body.map_err(|_| "no whole answer in time".to_owned())?;
        let body = match body {
            Ok(body) => body,
            Err(Unread::Cut(problem)) => return Err(problem),
            Err(large @ Unread::Large) => {
                return Ok(Err(ClientError::Protocol {
                    endpoint: endpoint.clone(),
                    problem: large.to_string(),
                }));
            }
        };
        Ok(match answer::read(endpoint, status, &body) {
            Err(error) => Err(error),
            Ok(_) => Err(ClientError::Protocol {
                endpoint: endpoint.clone(),
                problem: "an answer that is no stream".into(),
            }),
        })
    }
}

/// An event as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Told {
    event: String,
    id: Option<u64>,
    data: String,
}

/// Server-sent events, in whatever pieces they arrive.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    growing: Told,
    ready: VecDeque<Told>,
}

impl Parser {
    /// Takes bytes; false if an event is too large.
    fn push(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.end_line(&line);
            } else {
                self.line.push(*byte);
            }
            if self.line.len() + self.growing.data.len() > EVENT_BYTES_MAX {
                return false;
            }
        }
        true
    }

    fn end_line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.strip_suffix('\r').unwrap_or(&line);
        if line.is_empty() {
            let told = std::mem::take(&mut self.growing);
            if !told.data.is_empty() {
                self.ready.push_back(told);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.growing.event),
            "id" => self.growing.id = value.parse().ok(),
            "data" => {
                if !self.growing.data.is_empty() {
                    self.growing.data.push('\n');
                }
                self.growing.data.push_str(value);
            }
            // A remark, or what nobody here knows.
            _ => {}
        }
    }

    fn next(&mut self) -> Option<Told> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_in_whatever_pieces_they_come() {
        let text = ": hello\n\nevent: added\ndata: {\"name\":\ndata: \"\u{fc}\"}\n\nevent: bookmark\r\nid: 7\r\ndata: {}\r\n\r\nevent: cut\n";
        let expected = [
            Told {
                event: "added".into(),
                id: None,
                data: "{\"name\":\n\"\u{fc}\"}".into(),
            },
            Told {
                event: "bookmark".into(),
                id: Some(7),
                data: "{}".into(),
            },
        ];
        let bytes = text.as_bytes();
        for pieces in [bytes.chunks(1), bytes.chunks(3), bytes.chunks(1000)] {
            let mut parser = Parser::default();
            for piece in pieces {
                assert!(parser.push(piece));
            }
            assert_eq!(parser.next().as_ref(), Some(&expected[0]));
            assert_eq!(parser.next().as_ref(), Some(&expected[1]));
            assert_eq!(parser.next(), None);
        }
    }

    #[test]
    fn an_event_is_bounded() {
        let mut parser = Parser::default();
        assert!(parser.push(b"data: "));
        assert!(!parser.push(&vec![b'x'; EVENT_BYTES_MAX]));
    }
}
