//! The control socket: reads request lines, dispatches them, writes answers and notifications.
//!
//! One thread, one poll loop. A client that sends nonsense gets an error; one that sends an endless line, or does not read what
//! it asked for, is cut off. No client can make the loop wait.

use super::engine::{Ending, Engine};
use super::error::RpcError;
use super::protocol::*;
use crate::io::event::{PollFd, Signals, poll};
use crate::protocol_methods;
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// Connections at a time.
const MAX_CLIENTS: usize = 64;
/// Bytes waiting for a client that does not read: one whole dump of the largest tables, and then some.
const MAX_PENDING: usize = 256 << 20;
/// Bytes taken from one client before the others get their turn.
const READ_AT_ONCE: usize = 1 << 20;
const TICK: Duration = Duration::from_secs(1);

struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    /// Where in `input` no line end was found yet, so that a long line is not searched again and again.
    searched: usize,
    output: Vec<u8>,
    subscribed: bool,
    closing: bool,
}

/// Serves until a signal or `shutdown`.
pub fn serve(listener: &UnixListener, signals: &Signals, engine: &mut Engine) -> io::Result<()> {
    let mut clients: Vec<Client> = Vec::new();
    let mut next_tick = Instant::now() + TICK;
    loop {
        let mut fds: Vec<PollFd> = [listener.as_raw_fd(), signals.fd(), engine.reports_fd()].into_iter().map(readable).collect();
        fds.extend(engine.monitor_fds().map(readable));
        let monitors = 3..fds.len();
        fds.extend(clients.iter().map(|client| {
            let output = if client.output.is_empty() { 0 } else { libc::POLLOUT };
            PollFd { fd: client.stream.as_raw_fd(), events: libc::POLLIN | output, revents: 0 }
        }));
        let tick = next_tick.saturating_duration_since(Instant::now());
        let wait = engine.caches_wait().map_or(tick, |wait| wait.min(tick));
        poll(&mut fds, i32::try_from(wait.as_millis()).unwrap_or(0).saturating_add(1))?;
        let ready = |index: usize| fds.get(index).is_some_and(|fd| fd.revents != 0);

        if ready(1) {
            engine.ending.get_or_insert(Ending::KeepTaps);
        }
        if ready(2) {
            engine.take_reports();
        }
        if monitors.clone().any(ready) {
            engine.take_underlay_events();
            engine.take_link_events();
            engine.take_neighbour_events();
        }
        for (client, fd) in clients.iter_mut().zip(fds.get(monitors.end..).unwrap_or_default()) {
            if fd.revents & !libc::POLLOUT != 0 {
                client.take_input(engine);
            }
        }
        if Instant::now() >= next_tick {
            engine.tick();
            next_tick = Instant::now() + TICK;
        }
        engine.refresh_caches();
        for line in engine.take_events() {
            for client in clients.iter_mut().filter(|client| client.subscribed) {
                client.output.extend_from_slice(&line);
            }
        }
        clients.iter_mut().for_each(Client::flush);
        clients.retain(|client| !(client.closing && client.output.is_empty()) && client.output.len() <= MAX_PENDING);
        if ready(0) {
            accept(listener, &mut clients);
        }
        if engine.ending.is_some() {
            return Ok(());
        }
    }
}

fn readable(fd: RawFd) -> PollFd {
    PollFd { fd, events: libc::POLLIN, revents: 0 }
}

fn accept(listener: &UnixListener, clients: &mut Vec<Client>) {
    while let Ok((stream, _)) = listener.accept() {
        if clients.len() >= MAX_CLIENTS || stream.set_nonblocking(true).is_err() {
            // Dropped: the peer sees the end of the stream.
            continue;
        }
        clients.push(Client { stream, input: Vec::new(), searched: 0, output: Vec::new(), subscribed: false, closing: false });
    }
}

impl Client {
    fn take_input(&mut self, engine: &mut Engine) {
        let before = self.input.len();
        let mut chunk = [0u8; 65_536];
        while self.input.len() - before < READ_AT_ONCE {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.closing = true;
                    break;
                }
                Ok(length) => self.input.extend_from_slice(chunk.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.closing = true;
                    self.output.clear();
                    return;
                }
            }
        }
        let input = std::mem::take(&mut self.input);
        let mut start = 0;
        while let Some(length) =
            input.get(self.searched.max(start)..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
        {
            let end = self.searched.max(start) + length;
            self.line(input.get(start..end).unwrap_or_default(), engine);
            start = end + 1;
        }
        self.input = if start == 0 { input } else { input.get(start..).unwrap_or_default().to_vec() };
        self.searched = self.input.len();
        if self.input.len() > MAX_LINE {
            let error = RpcError::coded(-32600, "INVALID_REQUEST", format!("a request line exceeds {MAX_LINE} bytes"));
            self.answer(Value::Null, Err(error));
            self.input = Vec::new();
            self.closing = true;
        }
    }

    fn line(&mut self, line: &[u8], engine: &mut Engine) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let mut request: Value = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => {
                return self
                    .answer(Value::Null, Err(RpcError::coded(-32700, "PARSE_ERROR", format!("not a JSON line: {error}"))));
            }
        };
        let id = request.get("id").filter(|id| id.is_string() || id.is_number() || id.is_null()).cloned();
        let method = request.get("method").and_then(Value::as_str).map(str::to_owned);
        let (Some("2.0"), Some(method)) = (request.get("jsonrpc").and_then(Value::as_str), method) else {
            let message = "a request is an object with \"jsonrpc\": \"2.0\", \"method\" and, for an answer, \"id\"";
            return self.answer(id.unwrap_or_default(), Err(RpcError::coded(-32600, "INVALID_REQUEST", message)));
        };
        // Whole tables are large: no copy.
        let params = request.get_mut("params").map_or_else(|| json!({}), Value::take);
        let result = dispatch(engine, &method, params);
        if method == "events.subscribe" && result.is_ok() {
            self.subscribed = true;
        }
        // Without an id it is a notification: carried out, not answered.
        if let Some(id) = id {
            self.answer(id, result);
        }
    }

    fn answer(&mut self, id: Value, result: Result<Value, RpcError>) {
        let response = match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(RpcError { code, data }) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": data.message, "data": data } })
            }
        };
        self.output.extend_from_slice(format!("{response}\n").as_bytes());
    }

    fn flush(&mut self) {
        let mut written = 0;
        while let Some(rest) = self.output.get(written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(length) => written += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.closing = true;
                    self.output.clear();
                    return;
                }
            }
        }
        self.output.drain(..written.min(self.output.len()));
    }
}

macro_rules! dispatcher {
    ($($name:literal => $function:ident($params:ty) -> $result:ty;)+) => {
        fn dispatch(engine: &mut Engine, method: &str, params: Value) -> Result<Value, RpcError> {
            match method {
                $($name => {
                    let params: $params = serde_json::from_value(params)
                        .map_err(|error| RpcError::coded(-32602, "INVALID_PARAMS", format!("{method}: {error}")))?;
                    let result: $result = engine.$function(params)?;
                    serde_json::to_value(result).map_err(|error| RpcError::new("EIO", error.to_string()))
                })+
                _ => Err(RpcError::coded(-32601, "METHOD_NOT_FOUND", format!("no method '{method}'"))),
            }
        }
    };
}

protocol_methods!(dispatcher);
